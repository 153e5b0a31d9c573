// SPDX-License-Identifier: Apache-2.0

package socket

// This file is what all systems share of a socket's directory. A socket is as safe as the way to it: who
// may change a directory on the way may put another socket there. So the way is checked once, from the
// root directory on, and what was checked stays open: from then on all that is done to the socket file is
// done in that directory, by the file's name alone, whatever becomes of the path.

import (
	"io/fs"
)

const (
	// directoryMode is the mode of the directories that are made.
	directoryMode = 0o750
	// maxSymlinks is how many symbolic links may lie on the way, as in path_resolution(7).
	maxSymlinks = 40
)

// describe says what lies at a path, for people.
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
