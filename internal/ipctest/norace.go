// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ipctest

// RaceEnabled reports whether the race detector is on.
const RaceEnabled = false
