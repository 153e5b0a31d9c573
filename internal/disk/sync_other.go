// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package disk

import "os"

// syncData is fsync(2); on macOS it is F_FULLFSYNC, which empties the cache of the drive too.
func syncData(f *os.File) error { return f.Sync() }
