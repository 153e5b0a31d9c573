// SPDX-License-Identifier: Apache-2.0

package buffers_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/buffers"
)

// TestBuffers_Sizes_FitWithinAnEighth: a buffer is as large as it was asked for, and at most an
// eighth larger, and that of the pool it goes back to.
func TestBuffers_Sizes_FitWithinAnEighth(t *testing.T) {
	for size := 513; size < 40<<20; size += 1 + size/50 {
		for _, size := range []int{size, size &^ 0x3ff, size&^0x3ff + 1, size | 0x3ff} {
			length, pool := buffers.Size(size)
			if size <= 512 {
				continue
			}
			again, same := buffers.Size(length)
			if length < size || length > size+size/8+64 || again != length || same != pool || (pool < 0) != (length > 16<<20) {
				t.Fatalf("%d bytes: a buffer of %d of pool %d, whose size gives %d of pool %d", size, length, pool, again, same)
			}
		}
	}
}
