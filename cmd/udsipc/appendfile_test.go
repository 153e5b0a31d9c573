// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// newAppendFile opens a file with a clock that the test sets.
func newAppendFile(t *testing.T, flags *appendFlags, raw bool) (*appendFile, *time.Time) {
	t.Helper()
	now := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	a := &appendFile{
		flags: flags, log: t.Logf, raw: raw, now: func() time.Time { return now }, toDisk: (*os.File).Sync,
	}
	if err := a.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a, &now
}

// contents returns the files in a directory, with what is in them, in the order of their names.
func contents(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s=%s", entry.Name(), text))
	}
	return list
}

func expectContents(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := contents(t, dir); !slices.Equal(got, want) {
		t.Errorf("the files are\n%q, want\n%q", got, want)
	}
}

// TestAppendFile_Size_Rotates: a file is renamed before it is too large; one write may be larger.
func TestAppendFile_Size_Rotates(t *testing.T) {
	dir := t.TempDir()
	a, now := newAppendFile(t, &appendFlags{path: filepath.Join(dir, "f"), size: 4, keep: 2, sync: true}, false)
	for i, text := range []string{"a\n", "b\n", "c\n", "large\n", "d\n"} {
		*now = now.Add(time.Second)
		if err := a.append([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			expectContents(t, dir, "f=large\n", "f.20260501T100003.000000Z=a\nb\n", "f.20260501T100004.000000Z=c\n")
		}
	}
	expectContents(t, dir, "f=d\n", "f.20260501T100004.000000Z=c\n", "f.20260501T100005.000000Z=large\n")
}

// TestAppendFile_Period_Rotates: at each multiple of the duration, also if the process was not there then; not an
// empty file. A name that is taken is not replaced, and other files stay.
func TestAppendFile_Period_Rotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	flags := &appendFlags{path: path, period: time.Hour, keep: 2}
	a, now := newAppendFile(t, flags, false)
	write := func(text string, when time.Time) {
		t.Helper()
		*now = when
		if err := a.append([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f.20260501T110000.000000Z", "f.bak", "f.20260501T110000"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ten := *now
	write("a\n", ten.Add(time.Minute))
	write("b\n", ten.Add(59*time.Minute))
	write("c\n", ten.Add(time.Hour))
	others := []string{
		"f.20260501T110000=old", "f.20260501T110000.000000Z=old", "f.20260501T110000.000001Z=a\nb\n", "f.bak=old",
	}
	expectContents(t, dir, append([]string{"f=c\n"}, others...)...)

	a.close()
	next := &appendFile{flags: flags, log: t.Logf, now: func() time.Time { return *now }, toDisk: (*os.File).Sync}
	*now = ten.Add(5 * time.Hour)
	if err := next.open(); err != nil {
		t.Fatal(err)
	}
	a = next
	t.Cleanup(next.close)
	write("d\n", ten.Add(5*time.Hour))
	expectContents(t, dir, "f=d\n", "f.20260501T110000=old", "f.20260501T110000.000001Z=a\nb\n",
		"f.20260501T150000.000000Z=c\n", "f.bak=old")
}

// TestAppendFile_TornEnd_IsMoved: what a kill has left of a message is moved away, at each byte.
func TestAppendFile_TornEnd_IsMoved(t *testing.T) {
	lines := []string{"one\n", "\n", strings.Repeat("x", 70<<10) + "\n", "two\n"}
	var frames []string
	for _, line := range lines {
		frames = append(frames, string(binary.AppendUvarint(nil, uint64(len(line))))+line)
	}
	for name, messages := range map[string][]string{"lines": lines, "frames": frames} {
		t.Run(name, func(t *testing.T) {
			text, ends := strings.Join(messages, ""), []int{0}
			for _, message := range messages {
				ends = append(ends, ends[len(ends)-1]+len(message))
			}
			for _, cut := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 66 << 10, len(text) - 7, len(text) - 6, len(text) - 5,
				len(text) - 4, len(text) - 3, len(text) - 2, len(text) - 1, len(text)} {
				whole := ends[0]
				for _, end := range ends {
					if end <= cut {
						whole = end
					}
				}
				checkTorn(t, name, text[:cut], whole)
			}
		})
	}
}

func checkTorn(t *testing.T, kind, text string, whole int) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := newAppendFile(t, &appendFlags{path: path}, kind == "frames")
	if err := a.append([]byte("z")); err != nil {
		t.Fatal(err)
	}
	want := []string{"f=" + text[:whole] + "z"}
	if torn := text[whole:]; torn != "" && kind == "lines" {
		want = append(want, "f.torn="+torn+"\n")
	} else if torn != "" {
		want = append(want, "f.torn="+torn)
	}
	if got := contents(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s, %d of %d bytes whole: %d files, want %d", kind, whole, len(text), len(got), len(want))
	}
}

// TestAppendFile_Sync_ComesBeforeReturn: what append has accepted is on the disk. If that fails, the file is as before,
// and with --sync=false the disk is not waited for.
func TestAppendFile_Sync_ComesBeforeReturn(t *testing.T) {
	dir := t.TempDir()
	a, _ := newAppendFile(t, &appendFlags{path: filepath.Join(dir, "f"), sync: true}, false)
	var synced []string
	failing := errors.New("the disk fails")
	a.toDisk = func(file *os.File) error {
		synced = append(synced, contents(t, dir)...)
		if len(synced) == 2 {
			return failing
		}
		return file.Sync()
	}
	for _, text := range []string{"a\n", "b\n", "c\n"} {
		if err := a.append([]byte(text)); errors.Is(err, failing) != (text == "b\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
	a.flags.sync = false
	if err := a.append([]byte("d\n")); err != nil {
		t.Error(err)
	}
	if want := []string{"f=a\n", "f=a\nb\n", "f=a\nc\n"}; !slices.Equal(synced, want) {
		t.Errorf("the disk had %q, want %q", synced, want)
	}
	expectContents(t, dir, "f=a\nc\nd\n")
}

// TestAppendFile_SecondProcess_IsRefused: two would cut each other's lines.
func TestAppendFile_SecondProcess_IsRefused(t *testing.T) {
	flags := &appendFlags{path: filepath.Join(t.TempDir(), "f")}
	newAppendFile(t, flags, false)
	second := &appendFile{flags: flags, log: t.Logf, now: time.Now}
	if err := second.open(); err == nil || !strings.Contains(err.Error(), "another process writes to it") {
		t.Errorf("got %v", err)
	}
}

// TestAppendFile_Reopen_FollowsName: after SIGHUP, messages go to a new file with the name.
func TestAppendFile_Reopen_FollowsName(t *testing.T) {
	dir := t.TempDir()
	a, _ := newAppendFile(t, &appendFlags{path: filepath.Join(dir, "f"), sync: true}, false)
	for _, text := range []string{"a\n", "b\n"} {
		if err := a.append([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(a.flags.path, filepath.Join(dir, "moved-"+text[:1])); err != nil {
			t.Fatal(err)
		}
		a.reopen()
	}
	expectContents(t, dir, "moved-a=a\n", "moved-b=b\n")
}

// TestAppendFile_NoRegularFile_IsRefused: a device has no end to repair, and nothing to wait for.
func TestAppendFile_NoRegularFile_IsRefused(t *testing.T) {
	a := &appendFile{flags: &appendFlags{path: os.DevNull}, log: t.Logf, now: time.Now}
	if err := a.open(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

// TestAppendFile_RenamedBeforeLock_IsOpenedAnew: the file with the lock is the one with the name.
func TestAppendFile_RenamedBeforeLock_IsOpenedAnew(t *testing.T) {
	path, opened := filepath.Join(t.TempDir(), "f"), 0
	file, err := openLocked(path, func(path string) (*os.File, error) {
		file, err := openAppend(path)
		if opened++; opened == 1 && err == nil {
			err = os.Rename(path, path+".old")
		}
		return file, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("here"); err != nil {
		t.Fatal(err)
	}
	expectContents(t, filepath.Dir(path), "f=here", "f.old=")
}

// TestAppendFile_RenamingFails_IsTriedAgain: the file of a period that is over gets no message of the next one.
func TestAppendFile_RenamingFails_IsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("f", 250)) // With a time, the name is too long.
	a, now := newAppendFile(t, &appendFlags{path: path, period: time.Hour}, false)
	if err := a.append([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Hour)
	for range 2 {
		if err := a.append([]byte("two\n")); err == nil {
			t.Error("no error")
		}
	}
	expectContents(t, dir, filepath.Base(path)+"=one\n")
}

// A countingReader counts reads.
type countingReader struct {
	text  string
	reads int
}

func (r *countingReader) ReadAt(b []byte, at int64) (int, error) {
	r.reads++
	return strings.NewReader(r.text).ReadAt(b, at)
}

// TestWholeFrames_SmallFrames_TakeFewReads: a large file of small messages delays the start little.
func TestWholeFrames_SmallFrames_TakeFewReads(t *testing.T) {
	file := &countingReader{text: strings.Repeat("\x03abc", 100_000) + "\x03ab"}
	end, err := wholeFrames(file, int64(len(file.text)))
	if err != nil || end != 400_000 || file.reads > 20 {
		t.Errorf("the end is %d, %v, after %d reads", end, err, file.reads)
	}
}

// TestAppendFile_SymbolicLink_StaysThere: the file is renamed, and not the link to it.
func TestAppendFile_SymbolicLink_StaysThere(t *testing.T) {
	dir, links := t.TempDir(), t.TempDir()
	link := filepath.Join(links, "link")
	if err := os.Symlink(filepath.Join(dir, "f"), link); err != nil {
		if runtime.GOOS == "windows" { // It takes a privilege.
			t.Skip(err)
		}
		t.Fatal(err)
	}
	a, _ := newAppendFile(t, &appendFlags{path: link, size: 5, keep: 1}, false)
	for _, text := range []string{"one\n", "two\n", "three\n"} {
		if err := a.append([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	expectContents(t, dir, "f=three\n", "f.20260501T100000.000001Z=two\n")
	expectContents(t, links, "link=three\n")
}

// TestAppendFile_Removed_IsNoError: it is there again when it is time to rename it.
func TestAppendFile_Removed_IsNoError(t *testing.T) {
	dir := t.TempDir()
	a, _ := newAppendFile(t, &appendFlags{path: filepath.Join(dir, "f"), size: 5}, false)
	if err := errors.Join(a.append([]byte("one\n")), os.Remove(a.path), a.append([]byte("two\n"))); err != nil {
		t.Fatal(err)
	}
	expectContents(t, dir, "f=two\n")
}
