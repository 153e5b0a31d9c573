// SPDX-License-Identifier: Apache-2.0

package disk

import "syscall"

// bootID has 16 bytes, and is no text. syscall.Sysctl takes a zero at the end away. FreeBSD 12 has none.
func bootID() (id [16]byte) {
	raw, err := syscall.Sysctl("kern.boot_id")
	if err == nil && (len(raw) == len(id) || len(raw) == len(id)-1) {
		copy(id[:], raw)
	}
	return id
}
