// SPDX-License-Identifier: Apache-2.0

package disk

import "os"

// bootID is in random(4).
func bootID() [16]byte {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [16]byte{}
	}
	return parseUUID(string(text))
}
