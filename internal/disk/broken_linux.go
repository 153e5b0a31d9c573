// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"syscall"
)

// isBroken reports whether the file system cannot read what it has of a file: EUCLEAN is "structure needs cleaning",
// of ext4 and XFS.
func isBroken(err error) bool { return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EUCLEAN) }
