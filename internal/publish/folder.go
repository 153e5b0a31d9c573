// SPDX-License-Identifier: Apache-2.0

package publish

// This file tells in which directory a process publishes, and in which ones to look.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
)

const (
	folderName = "udsipc"
	rootFolder = "/run/udsipc"
	// tempFolder is followed by the number of the user.
	tempFolder = "/tmp/udsipc-"
)

// Folder returns the directory in which this process publishes: in XDG_RUNTIME_DIR or RUNTIME_DIRECTORY, if that is
// an absolute path and belongs to the user of the process; else /run/udsipc for root, and /tmp/udsipc-UID for others.
func Folder() (string, error) {
	uid := os.Geteuid()
	if uid < 0 {
		return "", fmt.Errorf("%w: metrics are published on Unix systems alone", errors.ErrUnsupported)
	}
	session, service := systemd.RuntimeDirectories()
	for _, above := range []string{session, service} {
		if socket.OwnerOf(above) == uid && filepath.IsAbs(above) {
			return filepath.Join(above, folderName), nil
		}
	}
	if uid == 0 && socket.OwnerOf(filepath.Dir(rootFolder)) == 0 {
		return rootFolder, nil
	}
	return tempFolder + strconv.Itoa(uid), nil
}

// Folders returns the directories in which processes of this user may publish; for root, those of all users.
func Folders() []string {
	uid := os.Geteuid()
	session, service := systemd.RuntimeDirectories()
	patterns := []string{"/run/*/" + folderName, rootFolder, tempFolder + strconv.Itoa(uid)}
	if uid == 0 {
		patterns = append(patterns, "/run/*/*/"+folderName, tempFolder+"*")
	}
	var found []string
	for _, above := range []string{session, service} {
		if filepath.IsAbs(above) {
			found = append(found, filepath.Join(above, folderName))
		}
	}
	for _, pattern := range patterns {
		names, _ := filepath.Glob(pattern) // The patterns are well formed.
		found = append(found, slices.DeleteFunc(names, isOther)...)
	}
	return distinct(found, uid)
}

// isOther reports whether a path in /tmp is not the directory of the user whom it belongs to.
func isOther(path string) bool {
	uid, found := strings.CutPrefix(path, tempFolder)
	return found && uid != strconv.Itoa(socket.OwnerOf(path))
}

// distinct removes what is not there, what is there twice, and, unless uid is root, what belongs to other users.
func distinct(paths []string, uid int) (list []string) {
	var seen []os.FileInfo
next:
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || uid != 0 && socket.OwnerOf(path) != uid {
			continue
		}
		for _, other := range seen {
			if os.SameFile(other, info) {
				continue next
			}
		}
		seen, list = append(seen, info), append(list, path)
	}
	return list
}
