// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The disk of a server: a file system of its own that can be full. It takes root.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskSize is the size of the disk of the last server: more than the stream of many faults.
const diskSize = "size=3g"

// storage returns the directory of a server. The last one has a disk of its own, if that is possible. It has no place
// in the file system, but through a file that this process has open: it ends with the process, however that ends.
func (f *faulty) storage(i int) string {
	f.Helper()
	dir := filepath.Join(f.dir, string(rune('a'+i)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	if i < 2 || os.Geteuid() != 0 || syscall.Mount("udsipc", dir, "tmpfs", 0, diskSize) != nil {
		return dir
	}
	disk, err := os.Open(dir)
	if err2 := syscall.Unmount(dir, syscall.MNT_DETACH); err == nil {
		err = err2
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = disk.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), disk.Fd())
}

// hasDisk reports whether the last server has a disk of its own.
func (f *faulty) hasDisk() bool {
	var at, above syscall.Stat_t
	return syscall.Stat(f.dirs[2], &at) == nil && syscall.Stat(f.dir, &above) == nil && at.Dev != above.Dev
}

// fillDisk fills the disk of the last server until messages have gone on, and then makes room, as an operator does.
func (f *faulty) fillDisk() {
	f.Helper()
	dir := f.dirs[2]
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
	f.until("a server without disk", func(ctx context.Context) bool { // It has no stream then, or stays behind.
		all, err := f.nodes.Replicas(ctx, "EVENTS")
		return err != nil || all[2].Last+1000 < max(all[0].Last, all[1].Last)
	})
	f.progress(1000)
	f.nodes.Kill(2) // It does not go on by itself when there is room.
	if err := os.Remove(ballast); err != nil {
		f.Fatal(err)
	}
	if err := f.nodes.Start(2); err != nil {
		f.Fatal(err)
	}
}
