// SPDX-License-Identifier: Apache-2.0

package disk

import "syscall"

func bootID() [16]byte {
	text, err := syscall.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return [16]byte{}
	}
	return parseUUID(text)
}
