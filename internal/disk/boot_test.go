// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
)

func TestBoot_Twice_IsTheSame(t *testing.T) {
	id := disk.Boot()
	if again := disk.Boot(); again != id {
		t.Errorf("%x, then %x", id, again)
	}
	if runtime.GOOS != "linux" {
		return
	}
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Skip(err)
	}
	if got := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:]); got != string(text) {
		t.Errorf("%q, want %q", got, text)
	}
}
