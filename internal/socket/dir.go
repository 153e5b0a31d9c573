// SPDX-License-Identifier: Apache-2.0

package socket

// This file has what all systems share for the directory of a socket. A user who can change a
// directory on the path can put another socket there. The path is therefore checked once, from the
// root directory on, and the checked directory stays open. All later operations use that directory
// and the file's name, even if the path changes meanwhile.

import (
	"io/fs"
)

const (
	// directoryMode is the mode of directories that the package creates.
	directoryMode = 0o750
	// maxSymlinks is how many symbolic links a path may contain, as in path_resolution(7).
	maxSymlinks = 40
)

// describe returns the kind of a file as text for errors.
func describe(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case 0:
		return "a regular file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}
