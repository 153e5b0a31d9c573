// SPDX-License-Identifier: Apache-2.0

//go:build unix

package socket_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestSocket_UntrustedDirectory_IsRejected: the error names the directory and what to do.
func TestSocket_UntrustedDirectory_IsRejected(t *testing.T) {
	t.Parallel()
	mode := func(t *testing.T, dir string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	give := func(t *testing.T, dir string, bits os.FileMode) {
		t.Helper()
		mode(t, dir, bits)
		if err := os.Chown(dir, ipctest.Nobody, ipctest.Nobody); err != nil {
			t.Fatal(err)
		}
	}
	link := func(t *testing.T, target, name string, uid int) {
		t.Helper()
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(name, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	type makeFunc = func(t *testing.T, dir string) (path string)
	with := func(change func(*testing.T, string, os.FileMode), mode os.FileMode, path string) makeFunc {
		return func(t *testing.T, f string) string {
			change(t, f+"/a", mode)
			return path
		}
	}
	linked := func(target string, uid int) makeFunc {
		return func(t *testing.T, f string) string {
			link(t, target, f+"/l", uid)
			return "l/s"
		}
	}
	for name, test := range map[string]struct {
		make makeFunc
		want string // In the error; empty for none.
		root bool
	}{
		"a directory of one's own":   {func(*testing.T, string) string { return "a/s" }, "", false},
		"writable by the group":      {with(mode, 0o775, "a/s"), "(chmod g-w /", false},
		"the group's, sticky":        {with(mode, 0o770|os.ModeSticky, "a/s"), "", false},
		"above it, the group's":      {with(mode, 0o770, "a/b/s"), "chmod g-w", false},
		"writable by all, sticky":    {with(mode, 0o777|os.ModeSticky, "a/s"), "", false},
		"writable by all":            {with(mode, 0o777, "a/s"), "(chmod go-w /", false},
		"another's":                  {with(give, 0o755, "a/s"), "belongs to uid 65534", true},
		"another's, sticky":          {with(give, 0o777|os.ModeSticky, "a/s"), "belongs to uid 65534", true},
		"another's, which is closed": {with(give, 0o700, "a/s"), "chown", true},
		"above it, another's":        {with(give, 0o755, "a/b/s"), "belongs to uid 65534", true},
		"to be made in another's":    {with(give, 0o755, "a/new/s"), "belongs to uid 65534", true},
		"a way out of another's": {func(t *testing.T, f string) string {
			give(t, f+"/a", 0o755)
			link(t, f+"/a/../c", f+"/l", os.Geteuid())
			return "l/s"
		}, "belongs to uid 65534", true},
		"a named pipe": {func(t *testing.T, f string) string {
			if err := syscall.Mkfifo(f+"/p", 0o666); err != nil {
				t.Fatal(err)
			}
			return "p/s"
		}, "is a named pipe", false},
		"a link to what is still to be made": {func(t *testing.T, f string) string {
			link(t, "a", f+"/l", os.Geteuid())
			return "l/new/../new/s"
		}, "", false},
		"above it, writable by all": {with(mode, 0o777, "a/b/s"), "chmod", false},
		"a link of one's own":       {linked("a", os.Geteuid()), "", false},
		"a link of another":         {linked("a", ipctest.Nobody), "symbolic link", true},
		"an absolute link of another": {func(t *testing.T, f string) string {
			link(t, f+"/a", f+"/l", ipctest.Nobody)
			return "l/s"
		}, "symbolic link", true},
		"a link to what all may write": {func(t *testing.T, f string) string {
			mode(t, f+"/a", 0o777)
			link(t, "./a/../a/b", f+"/l", os.Geteuid())
			return "l/s"
		}, "chmod", false},
		"a link to itself": {linked("l", os.Geteuid()), "too many", false},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root {
				ipctest.AsRoot(t)
			}
			dir := t.TempDir()
			if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, test.make(t, dir))
			r := ipctest.NewReader(t, path)
			err := r.Start()
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Start: %v, want %q", err, test.want)
			case test.want != "" && test.want != "too many" && !errors.Is(err, udsipc.ErrInvalidSocketPath):
				t.Errorf("Start: %v, want ErrInvalidSocketPath", err)
			}
			if err != nil {
				ipctest.CheckEmpty(t, filepath.Join(dir, "a", "b"))
				if info := ipctest.Lstat(t, filepath.Join(dir, "a", "new")); info != nil {
					t.Error("Start has made a directory there")
				}
			}
		})
	}
}

// TestSocket_DotDotBehindLink_FollowsLink: ".." behind a symbolic link is the directory above the
// one that the link leads to.
func TestSocket_DotDotBehindLink_FollowsLink(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("a", "b"), filepath.Join(top, "link")); err != nil {
		t.Skip(err)
	}
	t.Chdir(top)
	for _, above := range []string{top + "/", ""} {
		r := ipctest.NewReader(t, above+"link/../s")
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		ipctest.CheckMode(t, filepath.Join(top, "a", "s"), os.ModeSocket|0o600)
		ipctest.Stop(t, r)
		if found := ipctest.Lstat(t, filepath.Join(top, "a", "s")); found != nil {
			t.Errorf("the socket is still there: %v", found.Mode())
		}
	}
}
