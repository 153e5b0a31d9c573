// SPDX-License-Identifier: Apache-2.0

//go:build netbsd || openbsd || dragonfly

package disk

import "math"

// Free is that of Disk. The standard library has no common call for it here.
func (d *dir) Free() (uint64, error) { return math.MaxUint64, d.gone() }
