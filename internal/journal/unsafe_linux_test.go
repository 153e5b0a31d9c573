// SPDX-License-Identifier: Apache-2.0

package journal_test

// Directories and files that are not, or not only, ours.

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// writeReal writes one message to a log in a directory.
func writeReal(t *testing.T, path string) {
	t.Helper()
	log, _, end := openReal(t, path, journal.Config{Sync: time.Hour})
	defer end()
	if _, err := log.Append(wire.AppendFrame(nil, []byte("hello")), 1); err != nil {
		t.Fatal(err)
	}
}

// TestOpen_LinkInPlaceOfFile_IsUnsafe: for each file of a spool, a symbolic link, a hard link to a file of another
// user, and a directory. Nothing is changed, and when they are away, the log opens.
func TestOpen_LinkInPlaceOfFile_IsUnsafe(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("other content"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := os.Chown(outside, ipctest.Nobody, -1) == nil
	for _, name := range []string{"state", "handled", segment.Name(1, 1), segment.Name(9, 9)} {
		for kind, replace := range map[string]func(path string) error{
			"symbolic link": func(path string) error { return os.Symlink(outside, path) },
			"hard link":     func(path string) error { return os.Link(outside, path) },
			"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		} {
			if kind == "hard link" && !foreign {
				continue // It takes root to make it.
			}
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			writeReal(t, dir)
			os.Rename(path, path+".kept")
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			d, err := disk.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := journal.Open(d, journal.Config{}); !errors.Is(err, disk.ErrUnsafe) {
				t.Errorf("%s in place of %s: %v, want %v", kind, name, err, disk.ErrUnsafe)
			}
			d.Close()
			os.Remove(path)
			os.Rename(path+".kept", path)
			log, start, end := openReal(t, dir, journal.Config{})
			if b, err := log.Next(); err != nil || b.Count != 1 || start.Found != 1 || start.Renewed {
				t.Errorf("%s was in place of %s: %+v, %v; %+v", kind, name, b, err, start)
			}
			end()
		}
	}
	if content, err := os.ReadFile(outside); string(content) != "other content" {
		t.Errorf("the file outside is %q, %v", content, err)
	}
}

// TestOpen_TwoProcesses_SecondIsRefused: while a process has the spool, and not after it was killed.
func TestOpen_TwoProcesses_SecondIsRefused(t *testing.T) {
	dir := t.TempDir()
	cmd := ipctest.Process(t, "journal holder", "SPOOL="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (disk.Disk, error){"Open": disk.Open, "Adopt": disk.Adopt} {
		if _, err := open(dir); !errors.Is(err, disk.ErrInUse) {
			t.Errorf("%s: %v, want %v", name, err, disk.ErrInUse)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	log, start, end := openReal(t, dir, journal.Config{Boot: disk.Boot()})
	defer end()
	if b, err := log.Next(); err != nil || b.Count != 1 || start.Renewed && disk.Boot() != [16]byte{} {
		t.Errorf("%+v, %v; %+v", b, err, start)
	}
}

func init() {
	ipctest.Roles["journal holder"] = func() error {
		d, err := disk.Open(os.Getenv("SPOOL"))
		if err != nil {
			return err
		}
		log, _, err := journal.Open(d, journal.Config{Sync: time.Hour, Boot: disk.Boot()})
		if err != nil {
			return err
		}
		if _, err := log.Append(wire.AppendFrame(nil, []byte("hello")), 1); err != nil {
			return err
		}
		os.Stdout.WriteString("!")
		_, err = os.Stdin.Read(make([]byte, 1)) // Until the test ends.
		return err
	}
}
