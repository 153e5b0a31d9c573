// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package udsipc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

const nobody = 65534

func newReader(tb testing.TB, address string, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewReader(ignore, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, r) })
	return r
}

// lstat returns what lies at path; nil for nothing.
func lstat(tb testing.TB, path string) fs.FileInfo {
	tb.Helper()
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return info
}

func checkMode(tb testing.TB, path string, want fs.FileMode) {
	tb.Helper()
	if info := lstat(tb, path); info == nil || info.Mode() != want {
		tb.Errorf("%s is %v, want %v", path, info, want)
	}
}

func checkEmpty(tb testing.TB, folder string) {
	tb.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) > 0 {
		tb.Errorf("the folder has %v, %v, want nothing", entries, err)
	}
}

// leaveStale makes a socket file on which nobody listens.
func leaveStale(tb testing.TB, path string) {
	tb.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
}

func TestSocketFolderAndDefaultMode(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(folder, "s")
	r := startReader(t, ignore, path)
	checkMode(t, filepath.Dir(folder), fs.ModeDir|0o750)
	checkMode(t, folder, fs.ModeDir|0o750)
	checkMode(t, path, fs.ModeSocket|0o600)
	stop(t, r)
	checkEmpty(t, folder)
}

func TestSocketFolderCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, filepath.Join(file, "s"))
	if err := r.Start(); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want %v of %s", err, syscall.ENOTDIR, file)
	}
}

func init() {
	roles["umask"] = func() error {
		umask, err := strconv.ParseUint(os.Getenv("UMASK"), 8, 32)
		if err != nil {
			return err
		}
		mode, err := strconv.ParseUint(os.Getenv("MODE"), 8, 32)
		if err != nil {
			return err
		}
		syscall.Umask(int(umask))
		path := os.Getenv("SOCKET")
		r, err := udsipc.NewReader(ignore, path, udsipc.WithSocketMode(fs.FileMode(mode)))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if want := fs.ModeSocket | fs.FileMode(mode); info.Mode() != want {
			return fmt.Errorf("the socket has mode %v, want %v", info.Mode(), want)
		}
		return r.Stop(context.Background())
	}
}

// TestSocketModeWhateverTheUmask uses processes, because the umask belongs to one.
func TestSocketModeWhateverTheUmask(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"666", "660", "600", "200", "777"} {
		for _, umask := range []string{"000", "022", "077", "777"} {
			t.Run(mode+" under "+umask, func(t *testing.T) {
				cmd := process(t, "umask", "SOCKET="+socketPath(t), "MODE="+mode, "UMASK="+umask)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}

// TestModeOfNothing: a mode or an owner that would protect nothing is refused.
func TestModeOfNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	places := map[string][]udsipc.ReaderOption{
		"tcp://127.0.0.1:0": nil, "/run/app.sock": {udsipc.WithListener(l)},
	}
	if runtime.GOOS == "linux" {
		places["@udsipc-test"] = nil
	}
	for address, opts := range places {
		for option, set := range map[string]udsipc.ReaderOption{
			"WithSocketMode(0600)":     udsipc.WithSocketMode(0o600),
			"WithSocketOwner(0, -1)":   udsipc.WithSocketOwner(0, -1),
			"WithSocketOwner(-1, 100)": udsipc.WithSocketOwner(-1, 100),
		} {
			_, err := udsipc.NewReader(ignore, address, append(opts, set)...)
			name, _, _ := strings.Cut(option, "(")
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", address, option, err)
			}
		}
		if _, err := udsipc.NewReader(ignore, address, opts...); err != nil {
			t.Errorf("%s with neither: %v", address, err)
		}
	}
}

func asRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("takes root")
	}
}

func TestSocketOwner(t *testing.T) {
	asRoot(t)
	for _, test := range []struct{ uid, gid, wantUID, wantGID int }{
		{nobody, nobody, nobody, nobody}, {nobody, -1, nobody, os.Getgid()}, {-1, nobody, os.Getuid(), nobody},
	} {
		path := socketPath(t)
		r := startReader(t, ignore, path, udsipc.WithSocketOwner(test.uid, test.gid), udsipc.WithSocketMode(0o660))
		checkMode(t, path, fs.ModeSocket|0o660)
		stat := lstat(t, path).Sys().(*syscall.Stat_t)
		if int(stat.Uid) != test.wantUID || int(stat.Gid) != test.wantGID {
			t.Errorf("owner %d:%d, want %d:%d", stat.Uid, stat.Gid, test.wantUID, test.wantGID)
		}
		stop(t, r)
	}
}

func TestSocketOwnerThatMayNotBeGiven(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may")
	}
	path := socketPath(t)
	err := newReader(t, path, udsipc.WithSocketOwner(0, -1)).Start()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "WithSocketOwner") {
		t.Errorf("got %v", err)
	}
	checkEmpty(t, filepath.Dir(path))
}

func init() {
	roles["intruder"] = func() error {
		path := os.Getenv("SOCKET")
		fmt.Println("ready")
		var refused, absent int
		latest := time.Now().Add(time.Minute)
		for {
			conn, err := net.Dial("unix", path)
			switch {
			case err == nil:
				conn.Close()
				return errors.New("connected")
			case errors.Is(err, syscall.EACCES):
				refused++
			case errors.Is(err, syscall.ENOENT):
				absent++
			case errors.Is(err, syscall.ECONNREFUSED):
				return fmt.Errorf("may connect, but nobody listens: %w", err)
			}
			if _, err := os.Lstat(path + ".end"); err == nil && refused > 0 { // The socket stays until this process ends.
				return nil
			}
			if time.Now().After(latest) {
				return fmt.Errorf("%d attempts found no socket, %d were refused", absent, refused)
			}
		}
	}
}

// startIntruder starts a process of another user that tries to connect until path.end exists.
func startIntruder(tb testing.TB, path string) (cmd *exec.Cmd, complaint *strings.Builder) {
	tb.Helper()
	cmd = process(tb, "intruder", "SOCKET="+path)
	// The binary lies where the other user may not go.
	self, err := os.ReadFile(cmd.Path)
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Path = filepath.Join(filepath.Dir(path), "intruder")
	if err := os.WriteFile(cmd.Path, self, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(cmd.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	complaint = &strings.Builder{}
	cmd.Stderr = complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		tb.Fatalf("intruder: %q, %v, %v: %s", line, err, cmd.Wait(), complaint)
	}
	return cmd, complaint
}

// openFolder returns a folder that every user may enter.
func openFolder(tb testing.TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("", "udsipc")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		tb.Fatal(err)
	}
	return folder
}

// TestNobodyElseConnectsAtAnyMoment has another user try while sockets come and go.
func TestNobodyElseConnectsAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	asRoot(t)
	if runtime.GOOS == "darwin" {
		t.Skip("the folder has to protect the socket there")
	}
	for name, opts := range map[string][]udsipc.ReaderOption{
		"mode alone":     {udsipc.WithSocketMode(0o600)},
		"mode and owner": {udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0)) // The worst; no other test runs now.
			path := filepath.Join(openFolder(t), "s")
			cmd, complaint := startIntruder(t, path)
			for range 50 {
				stop(t, startReader(t, ignore, path, opts...))
			}
			r := startReader(t, ignore, path, opts...)
			if err := os.WriteFile(path+".end", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("intruder: %v: %s", err, complaint)
			}
			if n := r.Metrics().Accepted; n != 0 {
				t.Errorf("%d connections accepted, want 0", n)
			}
		})
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	leaveStale(t, path)
	r := startReader(t, ignore, path)
	mustDial(t, path)
	stop(t, r)
	checkEmpty(t, filepath.Dir(path))
}

func TestSocketInUse(t *testing.T) {
	t.Parallel()
	for _, transport := range transports {
		address := transport.address(t)
		t.Run(transport.name+" of a Reader", func(t *testing.T) {
			first := startReader(t, ignore, address)
			second := newReader(t, address)
			if err := second.Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Fatalf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			mustDial(t, address)
			stop(t, first)
			mustListenAt(t, second)
		})
	}
	for _, transport := range transports {
		t.Run(transport.name+" of a stranger", func(t *testing.T) {
			address := transport.address(t)
			network, name := "unix", strings.TrimPrefix(address, "unix:")
			if rest, ok := strings.CutPrefix(address, "tcp://"); ok {
				network, name = "tcp", rest
			}
			l, err := net.Listen(network, name)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := newReader(t, address).Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Errorf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			mustDial(t, address)
		})
	}
}

// TestOneOfManyWins starts Readers at the same moment, over a stale socket or none.
func TestOneOfManyWins(t *testing.T) {
	t.Parallel()
	for n, rounds := range map[int]int{2: 50, 8: 10} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			for round := range rounds {
				contest(t, n, round%2 == 0)
			}
		})
	}
}

func contest(t *testing.T, n int, stale bool) {
	t.Helper()
	path := socketPath(t)
	if stale {
		leaveStale(t, path)
	}
	readers := make([]*udsipc.Reader, n)
	for i := range readers {
		readers[i] = newReader(t, path)
	}
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i, r := range readers {
		wg.Go(func() {
			<-begin
			errs[i] = r.Start()
		})
	}
	close(begin)
	wg.Wait()
	winner := slices.Index(errs, nil)
	for i, err := range errs {
		if winner < 0 || i != winner && !errors.Is(err, udsipc.ErrSocketInUse) {
			t.Fatalf("stale %v: %v, want one that wins, else %v", stale, errs, udsipc.ErrSocketInUse)
		}
	}
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello"))
	until(t, "the winner has the message", func() bool { return readers[winner].Metrics().Received == 1 })
	conn.Close()
	for i, r := range readers {
		if i != winner {
			stop(t, r)
		}
	}
	if lstat(t, path) == nil {
		t.Fatalf("stale %v: a loser removed the winner's socket", stale)
	}
	stop(t, readers[winner])
	checkEmpty(t, filepath.Dir(path))
}

// TestStartBesideStop starts a Reader while another one of the same path stops: it is refused, or its socket
// is there afterwards.
func TestStartBesideStop(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	path := socketPath(t)
	for round := range 60 {
		first, second := startReader(t, ignore, path), newReader(t, path)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop(t, first)
		}()
		err := second.Start()
		for errors.Is(err, udsipc.ErrSocketInUse) {
			err = second.Start()
		}
		<-stopped
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		mustDial(t, path).Close()
		stop(t, second)
		checkEmpty(t, filepath.Dir(path))
	}
}

// TestKilledReaderIsReplaced by the next one, whatever it was doing.
func TestKilledReaderIsReplaced(t *testing.T) {
	path := socketPath(t)
	for range 3 {
		c := startContender(t)
		c.tell(t, path)
		if got := c.says(t); got != "won" {
			t.Fatal(got)
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.cmd.Wait()
	}
	if err := os.WriteFile(lockFile(path), nil, 0o600); err != nil { // Of one that was killed in its Start.
		t.Fatal(err)
	}
	r := startReader(t, ignore, path)
	mustDial(t, path)
	stop(t, r)
	checkEmpty(t, filepath.Dir(path))
}

func init() {
	// A contender starts a Reader at each path that it is told, says how that went, and stops it when
	// it is told anything else.
	roles["contender"] = func() error {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			r, err := udsipc.NewReader(ignore, in.Text())
			if err != nil {
				return err
			}
			switch err := r.Start(); {
			case err == nil:
				fmt.Println("won")
			case errors.Is(err, udsipc.ErrSocketInUse):
				fmt.Println("in use")
			default:
				return err
			}
			in.Scan()
			if err := r.Stop(context.Background()); err != nil {
				return err
			}
			fmt.Println("stopped")
		}
		return in.Err()
	}
}

// A contender is a process in the role of that name.
type contender struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startContender(tb testing.TB) *contender {
	tb.Helper()
	cmd := process(tb, "contender")
	cmd.Stderr = tb.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Wait() }) // It was killed with the context, unless it has ended.
	return &contender{cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

// ends waits for the end of the process, which must be a good one.
func (c *contender) ends(tb testing.TB) {
	tb.Helper()
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		tb.Errorf("contender: %v", err)
	}
}

func (c *contender) tell(tb testing.TB, line string) {
	tb.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		tb.Fatal(err)
	}
}

func (c *contender) says(tb testing.TB) string {
	tb.Helper()
	if !c.out.Scan() {
		tb.Fatalf("the contender has gone: %v", c.out.Err())
	}
	return c.out.Text()
}

// TestOneOfTwoProcessesWins is TestOneOfManyWins between processes.
func TestOneOfTwoProcessesWins(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	contenders := []*contender{startContender(t), startContender(t)}
	for round := range 100 {
		path := socketPath(t)
		if round%2 == 0 {
			leaveStale(t, path)
		}
		for i := range contenders { // The other way round each second time.
			contenders[(round/2+i)%2].tell(t, path)
		}
		said := []string{contenders[0].says(t), contenders[1].says(t)}
		if slices.Sort(said); !slices.Equal(said, []string{"in use", "won"}) {
			t.Fatalf("round %d: %q, want one that won", round, said)
		}
		mustDial(t, path).Close()
		for _, c := range contenders {
			c.tell(t, "stop")
			if got := c.says(t); got != "stopped" {
				t.Fatalf("round %d: %q", round, got)
			}
		}
		checkEmpty(t, filepath.Dir(path))
	}
	for _, c := range contenders {
		c.ends(t)
	}
}

// TestDatagramSocketStays: it has an owner, though nobody can connect to it.
func TestDatagramSocketStays(t *testing.T) {
	path := socketPath(t)
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := lstat(t, path)
	r := newReader(t, path)
	if err := r.Start(); !errors.Is(err, udsipc.ErrSocketInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want %v at %s", err, udsipc.ErrSocketInUse, path)
	}
	stop(t, r)
	if after := lstat(t, path); after == nil || !os.SameFile(before, after) {
		t.Fatalf("there was %v, now %v", before, after)
	}
	sender, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if _, err := sender.Write([]byte("x")); err != nil {
		t.Errorf("the socket is of no use any more: %v", err)
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	for _, test := range []struct {
		says string
		make func(path string) error
	}{
		{"a regular file", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a symbolic link", func(path string) error { return os.Symlink("nowhere", path) }},
		{"a symbolic link to a stale socket", func(path string) error {
			leaveStale(t, path+".stale")
			return os.Symlink(path+".stale", path)
		}},
		{"a named pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
	} {
		t.Run(test.says, func(t *testing.T) {
			path := socketPath(t)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			before := lstat(t, path)
			says, _, _ := strings.Cut(test.says, " to ")
			r := newReader(t, path)
			for range 2 {
				err := r.Start()
				if !errors.Is(err, udsipc.ErrInvalidSocketPath) || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v, want %v and %q", err, udsipc.ErrInvalidSocketPath, says)
				}
			}
			stop(t, r)
			if after := lstat(t, path); after == nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
				t.Errorf("there was %v, now %v", before, after)
			}
			if strings.Contains(test.says, "stale") && lstat(t, path+".stale") == nil {
				t.Error("the stale socket behind the link is gone")
			}
		})
	}
}

func TestStopRemovesItsOwnSocketAlone(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"another's socket": func(path string) error { leaveStale(t, path); return nil },
		"regular file":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"nothing":          func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			r := startReader(t, ignore, path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			before := lstat(t, path)
			stop(t, r)
			after := lstat(t, path)
			if (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
				t.Errorf("there was %v, now %v", before, after)
			}
		})
	}
	t.Run("folder gone", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "f")
		r := startReader(t, ignore, filepath.Join(folder, "s"))
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		stop(t, r)
	})
	t.Run("another Reader's", func(t *testing.T) {
		path := socketPath(t)
		first := startReader(t, ignore, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		second := startReader(t, ignore, path)
		stop(t, first)
		mustDial(t, path)
		until(t, "the second has the connection", func() bool { return second.Metrics().Accepted == 1 })
	})
}

// lockFile is where Readers lock each other out while they make the socket at path.
func lockFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
}

// TestSocketIsLocked has another process of this user hold the lock for longer than a Reader waits, and then
// end without removing it.
func TestSocketIsLocked(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	lock, err := os.OpenFile(lockFile(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, path)
	began := time.Now()
	if err := r.Start(); !errors.Is(err, udsipc.ErrSocketInUse) || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("got %v, want %v", err, udsipc.ErrSocketInUse)
	}
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("waited %v, want about 1s", waited)
	}
	lock.Close()
	if err := r.Start(); err != nil {
		t.Errorf("once it is unlocked: %v", err)
	}
	if lstat(t, lockFile(path)) != nil {
		t.Error("the lock file was left behind")
	}
}

// TestLockThatOthersCanHold is not waited for: neither the directory's, which takes no more than permission to
// read it, nor one on a file that is not this user's alone.
func TestLockThatOthersCanHold(t *testing.T) {
	for name, open := range map[string]func(path string) (*os.File, error){
		"the directory": func(path string) (*os.File, error) { return os.Open(filepath.Dir(path)) },
		"a file that all may read": func(path string) (*os.File, error) {
			return os.OpenFile(lockFile(path), os.O_RDWR|os.O_CREATE, 0o644)
		},
		"a directory in the lock file's place": func(path string) (*os.File, error) {
			if err := os.Mkdir(lockFile(path), 0o700); err != nil {
				return nil, err
			}
			return os.Open(filepath.Dir(path))
		},
		"a symbolic link in the lock file's place": func(path string) (*os.File, error) {
			if err := os.Symlink("elsewhere", lockFile(path)); err != nil {
				return nil, err
			}
			return os.Open(filepath.Dir(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			f, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			before := lstat(t, lockFile(path))
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
				t.Fatal(err)
			}
			leaveStale(t, path)
			r := newReader(t, path)
			if err := r.Start(); err != nil {
				t.Error(err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			if err := r.Stop(ended); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("Stop with an ended context took %v", took)
			}
			if lstat(t, path) != nil {
				t.Error("the socket was left behind")
			}
			if after := lstat(t, lockFile(path)); (before == nil) != (after == nil) || after != nil && !os.SameFile(before, after) {
				t.Errorf("in the lock file's place was %v, now %v", before, after)
			}
			if lstat(t, filepath.Join(filepath.Dir(path), "elsewhere")) != nil {
				t.Error("the lock was made through a symbolic link")
			}
		})
	}
}
