// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package disk

import (
	"fmt"
	"syscall"
)

// Free is that of Disk: the blocks that a user without privileges may still take.
func (d *dir) Free() (uint64, error) {
	if err := d.gone(); err != nil {
		return 0, err
	}
	var stat syscall.Statfs_t
	err := control(d.self, func(fd int) error { return syscall.Fstatfs(fd, &stat) })
	if err != nil {
		return 0, fmt.Errorf("asking for the free space of %s: %w", d.path, err)
	}
	blocks := int64(stat.Bavail) // FreeBSD counts below zero what only root may take.
	return uint64(max(blocks, 0)) * uint64(stat.Bsize), nil
}
