// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package disk_test

// The directory of the operating system: what it refuses, and what its calls do.

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
)

// open opens a directory, and closes it after the test.
func open(t *testing.T, path string) disk.Disk {
	t.Helper()
	d, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpen_Missing_IsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v; want a directory of mode 0700", info.Mode(), err)
	}
	if _, err := disk.Open(filepath.Join(t.TempDir(), "a", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a parent: %v", err)
	}
}

func TestOpen_Locked_IsInUse(t *testing.T) {
	path := t.TempDir()
	first := open(t, path)
	if _, err := disk.Open(path); !errors.Is(err, disk.ErrInUse) {
		t.Errorf("a second one: %v, want %v", err, disk.ErrInUse)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	open(t, path)
}

func TestOpen_OthersMayWrite_IsUnsafe(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o770, 0o702, 0o1777} {
		path := t.TempDir()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.Open(path); !errors.Is(err, disk.ErrUnsafe) {
			t.Errorf("mode %v: %v, want %v", mode, err, disk.ErrUnsafe)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Open(path); err == nil {
		t.Error("a file was opened as a directory")
	}
}

// TestOpen_OtherUser_IsUnsafe: only root can give a directory away.
func TestOpen_OtherUser_IsUnsafe(t *testing.T) {
	path := t.TempDir()
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skip("needs root: ", err)
	}
	if _, err := disk.Open(path); !errors.Is(err, disk.ErrUnsafe) {
		t.Errorf("%v, want %v", err, disk.ErrUnsafe)
	}
}

func TestOpen_NoRegularFile_IsUnsafe(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	outside := filepath.Join(t.TempDir(), "outside")
	for name, make := range map[string]func(path string) error{
		"link": func(path string) error {
			return errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink(outside, path))
		},
		"inside":   func(path string) error { return os.Symlink("file", path) },
		"dangling": func(path string) error { return os.Symlink("nothing", path) },
		"pipe":     func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"dir":      func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		if err := make(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Open(name); !errors.Is(err, disk.ErrUnsafe) {
			t.Errorf("opening a %s: %v, want %v", name, err, disk.ErrUnsafe)
		}
		if _, err := d.Create(name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("creating over a %s: %v, want %v", name, err, fs.ErrExist)
		}
	}
	if entries, err := d.List(); len(entries) != 5 || err != nil {
		t.Errorf("%v, %v; want all five", entries, err)
	}
}

func TestFile_Calls_DoWhatTheySay(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	f, err := d.Create("b")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, writeErr := f.WriteAt([]byte("12345"), 3)
	if err := errors.Join(writeErr, f.Sync(), d.SyncNames(), f.Truncate(6)); err != nil || n != 5 {
		t.Errorf("wrote %d: %v", n, err)
	}
	if err := d.Rename("b", "a"); err != nil {
		t.Error(err)
	}
	got := make([]byte, 6)
	if n, err := f.ReadAt(got, 0); n != 6 || err != nil || string(got) != "\x00\x00\x00123" {
		t.Errorf("read %d bytes %q, %v", n, got, err)
	}
	if size, err := f.Size(); size != 6 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	if _, err := d.Create("c"); err != nil {
		t.Error(err)
	}
	entries, err := d.List()
	names := slices.Collect(func(yield func(string) bool) {
		for _, e := range entries {
			yield(e.Name)
		}
	})
	if !slices.Equal(names, []string{"a", "c"}) || err != nil || entries[0].Size != 6 || entries[0].Modified.IsZero() {
		t.Errorf("%+v, %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(path, "a")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if free, err := d.Free(); free == 0 || err != nil {
		t.Errorf("%d bytes free, %v", free, err)
	}
	if err := d.Remove("a"); err != nil {
		t.Error(err)
	}
	if _, err := d.Open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening a removed file: %v", err)
	}
	if n, err := f.ReadAt(got, 0); n != 6 || err != nil {
		t.Errorf("read %d bytes of a removed file, %v", n, err)
	}
}

// TestFile_Full_IsErrFull: a limit of the process stands for a full disk.
func TestFile_Full_IsErrFull(t *testing.T) {
	f, err := open(t, t.TempDir()).Create("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 1<<62); !errors.Is(err, disk.ErrFull) && !errors.Is(err, syscall.EINVAL) {
		t.Errorf("%v, want %v", err, disk.ErrFull)
	}
}

// TestDisk_DirectoryRemoved_IsNotExist: what is written there ends with the process.
func TestDisk_DirectoryRemoved_IsNotExist(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Free(); err != nil || d.SyncNames() != nil {
		t.Errorf("renamed: %v, %v; it is found under its new name", err, d.SyncNames())
	}
	if err := os.Remove(path + "2"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Free(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Free: %v, want %v", err, fs.ErrNotExist)
	}
	if err := d.SyncNames(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncNames: %v, want %v", err, fs.ErrNotExist)
	}
}

// TestClose_WhileProcessesStart_EndsTheLock: each has a copy of all descriptors until it runs its program.
func TestClose_WhileProcessesStart_EndsTheLock(t *testing.T) {
	path, ended := t.TempDir(), make(chan struct{})
	go func() {
		defer close(ended)
		for range 200 {
			_ = exec.Command("/nothing").Run()
		}
	}()
	for {
		d, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
			return
		default:
		}
	}
}
