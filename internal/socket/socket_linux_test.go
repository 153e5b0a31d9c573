// SPDX-License-Identifier: Apache-2.0

package socket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func init() {
	ipctest.Roles["locker"] = func() error { // Holds a lock on each file that it may open.
		for _, path := range strings.Split(os.Getenv("LOCK"), ":") {
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				f, err = os.Create(path)
			}
			if err != nil {
				return err
			}
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		time.Sleep(time.Hour) // Until it is killed; a select without cases would be a deadlock.
		return nil
	}
	ipctest.Roles["leaser"] = func() error { // Has a lease on a file of its own (fcntl(2)): whoever opens it waits.
		f, err := os.OpenFile(os.Getenv("LOCK"), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETLEASE, syscall.F_WRLCK); errno != 0 {
			return errno
		}
		fmt.Println("ready")
		time.Sleep(time.Hour) // Until it is killed; a select without cases would be a deadlock.
		return nil
	}
	ipctest.Roles["starter"] = func() error { // Starts a Reader, and says how that went.
		err := os.MkdirAll(filepath.Dir(os.Getenv("SOCKET")), 0o700)
		if err != nil {
			return err
		}
		r, err := udsipc.NewReader(ipctest.Ignore, os.Getenv("SOCKET"))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			fmt.Println(err)
			return nil
		}
		fmt.Println("started")
		return r.Stop(context.Background())
	}
	ipctest.Roles["linker"] = func() error { // Puts a symbolic link in the place of every socket, as far as it may.
		go swap(os.Getenv("FOLDER"), os.Getenv("VICTIM"), make(chan struct{}))
		fmt.Println("ready")
		time.Sleep(time.Hour) // Until it is killed; a select without cases would be a deadlock.
		return nil
	}
	ipctest.Roles["without proc"] = func() error {
		if err := syscall.Mount("none", "/proc", "tmpfs", 0, ""); err != nil {
			return err
		}
		if _, err := os.Stat("/proc/self"); err == nil {
			return errors.New("/proc is still there")
		}
		return startTwice(os.Getenv("SOCKET"))
	}
	ipctest.Roles["localhost elsewhere"] = func() error { // In a mount namespace of its own.
		if err := syscall.Mount(os.Getenv("HOSTS"), "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, dialed := udsipc.Dial(ctx, "tcp://localhost:4711")
		_, listened := udsipc.Listen("tcp://localhost:0")
		for _, err := range []error{dialed, listened} {
			if !errors.Is(err, udsipc.ErrPlaintext) || !strings.Contains(err.Error(), "192.0.2.1") {
				return fmt.Errorf("got %v, want %v of 192.0.2.1", err, udsipc.ErrPlaintext)
			}
		}
		return nil
	}
}

// swap puts a link to victim in the place of each socket at directory/s, and leaves it there until it is removed, or
// end is closed.
func swap(dir, victim string, end <-chan struct{}) {
	link, socket, old := filepath.Join(dir, "l"), filepath.Join(dir, "s"), filepath.Join(dir, "o")
	until := func(done func() bool) bool {
		for !done() {
			select {
			case <-end:
				return false
			default:
			}
		}
		return true
	}
	moved := func() bool { return syscall.Rename(socket, old) == nil }
	gone := func() bool {
		_, err := os.Lstat(socket)
		return errors.Is(err, fs.ErrNotExist)
	}
	for {
		_ = os.Symlink(victim, link) // What may not be done here fails, and is tried again.
		if !until(moved) {
			return
		}
		_ = syscall.Rename(link, socket)
		if !until(gone) {
			return
		}
	}
}

// startTwice starts a Reader over a stale socket, with a mode that the umask does not allow.
func startTwice(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	syscall.Umask(0o077)
	readers := make([]*udsipc.Reader, 2)
	for i := range readers {
		if readers[i], err = udsipc.NewReader(ipctest.Ignore, path, udsipc.WithSocketMode(0o666)); err != nil {
			return err
		}
	}
	if err := readers[0].Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
		return fmt.Errorf("somebody listens: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := readers[0].Start(); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o666 {
		return fmt.Errorf("the socket is %v, %w", info, err)
	}
	if err := readers[1].Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
		return fmt.Errorf("the second: %w", err)
	}
	return readers[0].Stop(context.Background())
}

// stickyFolder returns a directory like /tmp, and one in which a binary for another user may lie.
func stickyFolder(tb testing.TB) (dir, base string) {
	tb.Helper()
	base = ipctest.OpenDir(tb)
	dir = filepath.Join(base, "tmp")
	makeFolder(tb, dir, 0o777|os.ModeSticky, 0, 0)
	return dir, base
}

func makeFolder(tb testing.TB, path string, mode os.FileMode, uid, gid int) {
	tb.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chown(path, uid, gid); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		tb.Fatal(err)
	}
}

func mustScan(tb testing.TB, output *bufio.Scanner, want string) {
	tb.Helper()
	if !output.Scan() || output.Text() != want {
		tb.Fatalf("the process says %q, want %q", output.Text(), want)
	}
}

// TestSocket_ModeAndOwner_TouchNoOtherFile: whoever puts symbolic links in the place of sockets
// while Readers start changes no other file's mode or owner. Another user gets nowhere near; this
// one does, and harms nothing.
func TestSocket_ModeAndOwner_TouchNoOtherFile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	const starts = 100
	for name, test := range map[string]struct {
		mode     os.FileMode
		uid, gid int
		refused  bool
	}{
		"a directory of another":                {0o755, ipctest.Nobody, ipctest.Nobody, true},
		"a sticky directory of another":         {0o777 | os.ModeSticky, ipctest.Nobody, ipctest.Nobody, true},
		"a directory that a group may write to": {0o775, 0, ipctest.Nobody, true},
		"a sticky directory of root":            {0o777 | os.ModeSticky, 0, ipctest.Nobody, false},
		"a directory of root":                   {0o755, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			ipctest.AsRoot(t)
			victim := victimFile(t)
			sticky, base := stickyFolder(t)
			dir := filepath.Join(sticky, "app")
			makeFolder(t, dir, test.mode, test.uid, test.gid)
			_, output := ipctest.AsNobody(t, base, "linker", "FOLDER="+dir, "VICTIM="+victim)
			mustScan(t, output, "ready")
			for range starts {
				r := ipctest.NewReader(t, filepath.Join(dir, "s"), udsipc.WithSocketMode(0o666),
					udsipc.WithSocketOwner(ipctest.Nobody, -1))
				switch err := r.Start(); {
				case test.refused && (!errors.Is(err, udsipc.ErrInvalidSocketPath) || !strings.Contains(err.Error(), dir)):
					t.Fatalf("Start: %v, want %v of %s", err, udsipc.ErrInvalidSocketPath, dir)
				case !test.refused && err != nil:
					t.Fatal(err)
				}
				ipctest.Stop(t, r)
				_ = os.Remove(filepath.Join(dir, "s")) // The link, if that other one was fast enough.
			}
			checkVictim(t, victim)
		})
	}
	t.Run("the same user", func(t *testing.T) {
		victim, dir := victimFile(t), t.TempDir()
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			swap(dir, victim, end)
		}()
		for range starts { // Bound without permissions, so that the mode is always to be set.
			r := ipctest.NewReader(t, filepath.Join(dir, "s"), udsipc.WithSocketMode(0o666),
				udsipc.WithSocketOwner(os.Getuid(), os.Getgid()))
			_ = r.Start() // It may find what is none of its own.
			ipctest.Stop(t, r)
			_ = os.Remove(filepath.Join(dir, "s"))
		}
		close(end)
		<-ended
		checkVictim(t, victim)
	})
}

func victimFile(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "victim")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func checkVictim(tb testing.TB, path string) {
	tb.Helper()
	ipctest.CheckMode(tb, path, 0o600)
	if stat := ipctest.Lstat(tb, path).Sys().(*syscall.Stat_t); int(stat.Uid) != os.Getuid() {
		tb.Errorf("%s belongs to uid %d now", path, stat.Uid)
	}
}

// TestSocket_LocksOfOtherUser_DoNotBlock keep nobody from starting and from stopping.
func TestSocket_LocksOfOtherUser_DoNotBlock(t *testing.T) {
	ipctest.AsRoot(t)
	dir, base := stickyFolder(t)
	path, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	running := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.LeaveStale(t, second)
	_, output := ipctest.AsNobody(t, base, "locker",
		"LOCK="+strings.Join([]string{dir, ipctest.LockFile(path), ipctest.LockFile(second)}, ":"))
	mustScan(t, output, "ready")
	began := time.Now()
	if err := ipctest.NewReader(t, second).Start(); err != nil {
		t.Errorf("a stranger keeps it from starting: %v", err)
	}
	if err := ipctest.NewReader(t, path).Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
		t.Errorf("beside one that runs: %v, want %v", err, udsipc.ErrSocketInUse)
	}
	ipctest.Stop(t, running)
	if ipctest.Lstat(t, path) != nil {
		t.Error("the socket was left behind")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestSocket_LeaseOfOtherUser_DoesNotBlock on the lock file's name keeps nobody from starting.
func TestSocket_LeaseOfOtherUser_DoesNotBlock(t *testing.T) {
	ipctest.AsRoot(t)
	dir, base := stickyFolder(t)
	path := filepath.Join(dir, "s")
	_, output := ipctest.AsNobody(t, base, "leaser", "LOCK="+ipctest.LockFile(path))
	mustScan(t, output, "ready")
	began := time.Now()
	ipctest.StartReader(t, ipctest.Ignore, path)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestSocket_Directories_AreCheckedAsUser are tried as an ordinary user.
func TestSocket_Directories_AreCheckedAsUser(t *testing.T) {
	t.Parallel()
	ipctest.AsRoot(t)
	dir, base := stickyFolder(t)
	makeFolder(t, filepath.Join(base, "root"), 0o755, 0, 0)
	makeFolder(t, filepath.Join(base, "runtime"), 0o755, ipctest.Nobody, ipctest.Nobody) // RuntimeDirectory=, with User=.
	makeFolder(t, filepath.Join(base, "user"), 0o700, ipctest.Nobody, ipctest.Nobody)    // XDG_RUNTIME_DIR.
	makeFolder(t, filepath.Join(base, "other"), 0o777, 1, 1)
	for path, want := range map[string]string{
		dir + "/s":            "started",
		dir + "/own/s":        "started",
		base + "/runtime/s":   "started",
		base + "/user/s":      "started",
		base + "/user/a/b/s":  "started",
		base + "/root/s":      "permission denied",
		base + "/other/s":     "belongs to uid 1",
		base + "/other/own/s": "belongs to uid 1",
	} {
		t.Run(path, func(t *testing.T) {
			_, output := ipctest.AsNobody(t, base, "starter", "SOCKET="+path)
			if !output.Scan() || !strings.Contains(output.Text(), want) {
				t.Errorf("got %q, want %q", output.Text(), want)
			}
		})
	}
}

// TestSocket_ModeWithoutWrite_IsReplacedIfStale, as a Reader leaves one that is killed before the
// mode is set: it is replaced if nobody listens on it, and left as it is if somebody does.
func TestSocket_ModeWithoutWrite_IsReplacedIfStale(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"stale": "started", "in use": "a process listens"} {
		t.Run(name, func(t *testing.T) {
			ipctest.AsRoot(t)
			base := ipctest.OpenDir(t)
			dir := filepath.Join(base, "user")
			makeFolder(t, dir, 0o700, ipctest.Nobody, ipctest.Nobody)
			path := filepath.Join(dir, "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			t.Cleanup(func() { l.Close() })
			if err := os.Chown(path, ipctest.Nobody, ipctest.Nobody); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			if name == "stale" {
				l.Close()
			}
			cmd, output := ipctest.AsNobody(t, base, "starter", "SOCKET="+path)
			if !output.Scan() || !strings.Contains(output.Text(), want) {
				t.Errorf("got %q, want %q", output.Text(), want)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if name == "in use" {
				ipctest.CheckMode(t, path, fs.ModeSocket)
			}
		})
	}
}

// inNamespace runs a role where it may mount what it likes.
func inNamespace(t *testing.T, role string, environment ...string) {
	t.Helper()
	ipctest.AsRoot(t)
	cmd := ipctest.Process(t, role, environment...)
	// What is mounted there is seen there alone (syscall).
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("takes the right to make namespaces")
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSocket_WithoutProc_Works(t *testing.T) {
	inNamespace(t, "without proc", "SOCKET="+ipctest.SocketPath(t))
}

// TestSocket_LocalhostElsewhere_IsRejected: a name server or a table of hosts that has localhost on
// another machine gets nothing.
func TestSocket_LocalhostElsewhere_IsRejected(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("192.0.2.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	inNamespace(t, "localhost elsewhere", "HOSTS="+hosts, "GODEBUG=netdns=go")
}
