// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/hex"
	"strings"
)

// Boot returns a value that is another one after each boot of the machine, or zeros if the system has none. A
// container has that of its host: a container that is started again has lost nothing that was written.
//
// The time of the boot is no such value: it changes with the clock.
func Boot() [16]byte { return bootID() }

// parseUUID parses a UUID as text, or returns zeros.
func parseUUID(text string) (id [16]byte) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
	if err != nil || len(b) != len(id) {
		return id
	}
	return [16]byte(b)
}
