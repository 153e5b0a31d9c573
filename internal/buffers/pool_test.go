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

// TestBuffer_LastHolder_Releases: the owner has the buffer back once it is the only holder, and the last
// holder returns it.
func TestBuffer_LastHolder_Releases(t *testing.T) {
	b := buffers.Get(1 << 10)
	b.Share()
	b.Hold()
	b.Hold()
	if b.Unshare() {
		t.Error("unshared with two other holders")
	}
	b.Release()
	b.Release()
	if !b.Unshare() {
		t.Error("not unshared by the only holder")
	}
	if b.Unshare() {
		t.Error("unshared twice")
	}
	b.Share()
	b.Hold()
	b.Release()
	b.Release() // To the pool.
}
