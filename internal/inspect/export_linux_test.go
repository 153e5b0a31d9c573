// SPDX-License-Identifier: Apache-2.0

package inspect

// What parses the files of /proc.
var (
	UnixInodes = unixInodes
	UnitOf     = unitOf
)
