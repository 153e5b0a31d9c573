// SPDX-License-Identifier: Apache-2.0

package systemd

var (
	ParseActivation = parseActivation
	ParseWatchdog   = parseWatchdog
	ErrStoreFull    = errStoreFull
)

// Slots is how many descriptors this process has left with systemd.
func Slots() int64 { return storedCount.Load() }
