// SPDX-License-Identifier: Apache-2.0

package spool

import "github.com/udsipc/udsipc/internal/disk"

// OpenOn is NewWriter on a disk, in a boot of the machine.
func OpenOn(d disk.Disk, boot byte, address string, opts ...Option) (*Writer, error) {
	opts = append(opts, func(c *config) { c.boot = [16]byte{boot} })
	return open("a disk in memory", address, func(string) (disk.Disk, error) { return d, nil }, opts)
}
