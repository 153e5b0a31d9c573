// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package socket_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/socket"
)

// TestFolder_Replaced_IsTheOneThatWasOpened: the owner may put another file at the path after the check. A pipe there
// would have the caller wait for ever.
func TestFolder_Replaced_IsTheOneThatWasOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	if err := socket.MakePrivate(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "a.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder, err := socket.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := os.Rename(path, path+" moved"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if names, err := folder.Names(".sock"); err != nil || !slices.Equal(names, []string{"a.sock"}) {
			t.Errorf("%q, %v", names, err)
		}
	}
}

// TestMakePrivate_Umask_TakesNothingFromTheOwner: without its bits the user could publish nothing there, ever.
func TestMakePrivate_Umask_TakesNothingFromTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	before := syscall.Umask(0o177)
	err := socket.MakePrivate(path)
	syscall.Umask(before)
	if err != nil {
		t.Fatal(err)
	}
	ipctest.CheckMode(t, path, fs.ModeDir|0o700)
}
