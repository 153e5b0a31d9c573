// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The disk of a server: a file system of its own that can be full. It takes root.

import (
	"os"
	"path/filepath"
	"syscall"
)

// diskSize is the size of the disk of the last server: more than the stream of many faults.
const diskSize = "size=3g"

// storage returns the directory of a server. The last one has a disk of its own, if that is possible.
func (f *faulty) storage(i int) string {
	f.Helper()
	dir := filepath.Join(f.dir, string(rune('a'+i)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	if i == 2 && os.Geteuid() == 0 && syscall.Mount("udsipc", dir, "tmpfs", 0, diskSize) == nil {
		f.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				f.Error(err)
			}
		})
	}
	return dir
}

// fillDisk fills the disk of the last server until messages have gone on, and reports whether it has one.
func (f *faulty) fillDisk() bool {
	f.Helper()
	dir := f.dirs[2]
	var at, above syscall.Stat_t
	if syscall.Stat(dir, &at) != nil || syscall.Stat(f.dir, &above) != nil || at.Dev == above.Dev {
		return false
	}
	ballast := filepath.Join(dir, "ballast")
	file, err := os.Create(ballast)
	if err != nil {
		f.Fatal(err)
	}
	size := int64(64 << 20)
	for at := int64(0); size >= 4096; { // In smaller and smaller pieces, to the last page.
		if syscall.Fallocate(int(file.Fd()), 0, at, size) == nil {
			at += size
		} else {
			size /= 2
		}
	}
	_ = file.Close()
	f.progress(1000)
	f.nodes.Kill(2) // It may have written a part of something.
	if err := os.Remove(ballast); err != nil {
		f.Fatal(err)
	}
	if err := f.nodes.Start(2); err != nil {
		f.Fatal(err)
	}
	return true
}
