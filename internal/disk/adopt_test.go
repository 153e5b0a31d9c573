// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package disk_test

// Directories of other users, and links to directories.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func init() {
	ipctest.Roles["disk owner"] = useOwn
	ipctest.Roles["disk stranger"] = func() error {
		d, err := disk.Adopt(os.Getenv("SPOOL"))
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, disk.ErrUnsafe) {
			return fmt.Errorf("a directory of root: %w, want %w", err, disk.ErrUnsafe)
		}
		return nil
	}
}

// useOwn opens what root has made for this user, and leaves a file of its own.
func useOwn() error {
	d, err := disk.Open(os.Getenv("SPOOL"))
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := d.Open("made")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.WriteAt([]byte("mine"), 0); err != nil {
		return err
	}
	own, err := d.Create("own")
	if err != nil {
		return err
	}
	return own.Close()
}

// others returns a directory of the user Nobody below one that all may enter.
func others(t *testing.T) string {
	t.Helper()
	ipctest.AsRoot(t)
	path := filepath.Join(ipctest.OpenDir(t), "spool")
	err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, ipctest.Nobody, ipctest.Nobody))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runAs runs a role as the user Nobody.
func runAs(t *testing.T, role, path string) {
	t.Helper()
	cmd := ipctest.Process(t, role, "SPOOL="+path)
	cmd.Path, cmd.Dir = ipctest.CopyBinary(t, filepath.Dir(path), cmd.Path), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ipctest.Nobody, Gid: ipctest.Nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", role, err, out)
	}
}

func adopt(t *testing.T, path string) disk.Disk {
	t.Helper()
	d, err := disk.Adopt(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAdopt_Missing_IsNotExist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	if _, err := disk.Adopt(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	d := adopt(t, t.TempDir())
	defer d.Close()
	f, err := d.Create("file") // Our own directory is one as any.
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestAdopt_OtherUser_MakesFilesOfIts: the owner can use what root has made, and root what the owner has.
func TestAdopt_OtherUser_MakesFilesOfIts(t *testing.T) {
	path := others(t)
	if err := os.WriteFile(filepath.Join(path, "made.root"), nil, 0o600); err != nil {
		t.Fatal(err) // Root was killed here before.
	}
	d := adopt(t, path)
	if _, err := disk.Adopt(path); !errors.Is(err, disk.ErrInUse) {
		t.Errorf("twice: %v, want %v", err, disk.ErrInUse)
	}
	f, err := d.Create("made")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("made"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("twice: %v, want %v", err, fs.ErrExist)
	}
	f.Close()
	d.Close()
	runAs(t, "disk owner", path)
	d = adopt(t, path)
	defer d.Close()
	entries, err := d.List()
	if err != nil || len(entries) != 2 || entries[0].Name != "made" || entries[0].Size != 4 || entries[1].Name != "own" {
		t.Errorf("%+v, %v; want made and own", entries, err)
	}
	f, err = d.Open("own")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestAdopt_LinkToAnother_IsUnsafe: a hard link to a file of root in the directory of a user.
func TestAdopt_LinkToAnother_IsUnsafe(t *testing.T) {
	path := others(t)
	secret := filepath.Join(filepath.Dir(path), "secret")
	err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.Link(secret, filepath.Join(path, "state")),
		os.Symlink(secret, filepath.Join(path, "handled")))
	if err != nil {
		t.Fatal(err)
	}
	d := adopt(t, path)
	defer d.Close()
	for _, name := range []string{"state", "handled"} {
		if _, err := d.Open(name); !errors.Is(err, disk.ErrUnsafe) {
			t.Errorf("%s: %v, want %v", name, err, disk.ErrUnsafe)
		}
	}
}

// TestAdopt_NotRoot_IsUnsafe: only root may adopt the directory of another user.
func TestAdopt_NotRoot_IsUnsafe(t *testing.T) {
	path := others(t)
	if err := errors.Join(os.Chown(path, 0, 0), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	runAs(t, "disk stranger", path)
}

// TestOpen_LinkInPath_NeedsItsOwner: the last part of the path is a symbolic link to the directory.
func TestOpen_LinkInPath_NeedsItsOwner(t *testing.T) {
	path := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, link + "/"} {
		d, err := disk.Open(path)
		if err != nil {
			t.Fatalf("our own link: %v", err)
		}
		d.Close()
	}
	if err := os.Lchown(link, ipctest.Nobody, -1); err != nil {
		t.Skip("needs root: ", err)
	}
	for name, open := range map[string]func(string) (disk.Disk, error){"Open": disk.Open, "Adopt": disk.Adopt} {
		for _, path := range []string{link, link + "/", link + "/."} {
			if _, err := open(path); !errors.Is(err, disk.ErrUnsafe) {
				t.Errorf("%s of %s, a link of another user: %v, want %v", name, path, err, disk.ErrUnsafe)
			}
		}
	}
	theirs := others(t)
	if err := errors.Join(os.Remove(link), os.Symlink(theirs, link)); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []int{0, ipctest.Nobody} {
		if err := os.Lchown(link, owner, -1); err != nil {
			t.Fatal(err)
		}
		adopt(t, link).Close()
	}
}
