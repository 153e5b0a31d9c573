// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket_test

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
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestSocket_Start_CreatesDirectoryAndMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "s")
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.CheckMode(t, filepath.Dir(dir), fs.ModeDir|0o750)
	ipctest.CheckMode(t, dir, fs.ModeDir|0o750)
	ipctest.CheckMode(t, path, fs.ModeSocket|0o600)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, dir)
}

func TestSocket_DirectoryFails_IsError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := ipctest.NewReader(t, filepath.Join(file, "s"))
	if err := r.Start(); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want %v of %s", err, syscall.ENOTDIR, file)
	}
}

func init() {
	ipctest.Roles["umask"] = func() error {
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
		r, err := udsipc.NewReader(ipctest.Ignore, path, udsipc.WithSocketMode(fs.FileMode(mode)))
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

// TestSocket_Mode_IgnoresUmask uses processes, because the umask belongs to one.
func TestSocket_Mode_IgnoresUmask(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"666", "660", "600", "200", "777"} {
		for _, umask := range []string{"000", "022", "077", "777"} {
			t.Run(mode+" under "+umask, func(t *testing.T) {
				cmd := ipctest.Process(t, "umask", "SOCKET="+ipctest.SocketPath(t), "MODE="+mode, "UMASK="+umask)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}

// TestSocket_ModeWithoutFile_IsError: a mode or an owner that would protect nothing is refused.
func TestSocket_ModeWithoutFile_IsError(t *testing.T) {
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
			_, err := udsipc.NewReader(ipctest.Ignore, address, append(opts, set)...)
			name, _, _ := strings.Cut(option, "(")
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", address, option, err)
			}
		}
		if _, err := udsipc.NewReader(ipctest.Ignore, address, opts...); err != nil {
			t.Errorf("%s with neither: %v", address, err)
		}
	}
}

func TestSocket_Owner_IsSet(t *testing.T) {
	ipctest.AsRoot(t)
	for _, test := range []struct{ uid, gid, wantUID, wantGID int }{
		{ipctest.Nobody, ipctest.Nobody, ipctest.Nobody, ipctest.Nobody},
		{ipctest.Nobody, -1, ipctest.Nobody, os.Getgid()},
		{-1, ipctest.Nobody, os.Getuid(), ipctest.Nobody},
	} {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, ipctest.Ignore, path,
			udsipc.WithSocketOwner(test.uid, test.gid), udsipc.WithSocketMode(0o660))
		ipctest.CheckMode(t, path, fs.ModeSocket|0o660)
		stat := ipctest.Lstat(t, path).Sys().(*syscall.Stat_t)
		if int(stat.Uid) != test.wantUID || int(stat.Gid) != test.wantGID {
			t.Errorf("owner %d:%d, want %d:%d", stat.Uid, stat.Gid, test.wantUID, test.wantGID)
		}
		ipctest.Stop(t, r)
	}
}

func TestSocket_OwnerNotPermitted_IsError(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may")
	}
	path := ipctest.SocketPath(t)
	err := ipctest.NewReader(t, path, udsipc.WithSocketOwner(0, -1)).Start()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "WithSocketOwner") {
		t.Errorf("got %v", err)
	}
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

func init() {
	ipctest.Roles["intruder"] = func() error {
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
	cmd = ipctest.Process(tb, "intruder", "SOCKET="+path)
	cmd.Path = ipctest.CopyBinary(tb, filepath.Dir(path), cmd.Path) // It lies where the other user may not go.
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ipctest.Nobody, Gid: ipctest.Nobody}}
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

// TestSocket_OtherUser_NeverConnects has another user try while sockets come and go.
func TestSocket_OtherUser_NeverConnects(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ipctest.AsRoot(t)
	if runtime.GOOS == "darwin" {
		t.Skip("the directory has to protect the socket there")
	}
	for name, opts := range map[string][]udsipc.ReaderOption{
		"mode alone":     {udsipc.WithSocketMode(0o600)},
		"mode and owner": {udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0)) // The worst; no other test runs now.
			path := filepath.Join(ipctest.OpenDir(t), "s")
			cmd, complaint := startIntruder(t, path)
			for range 50 {
				ipctest.Stop(t, ipctest.StartReader(t, ipctest.Ignore, path, opts...))
			}
			r := ipctest.StartReader(t, ipctest.Ignore, path, opts...)
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

func TestSocket_Stale_IsReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.LeaveStale(t, path)
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.MustDial(t, path)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

func TestSocket_InUse_IsError(t *testing.T) {
	t.Parallel()
	for _, transport := range ipctest.Transports {
		address := transport.Address(t)
		t.Run(transport.Name+" of a Reader", func(t *testing.T) {
			t.Parallel()
			first := ipctest.StartReader(t, ipctest.Ignore, address)
			second := ipctest.NewReader(t, address)
			if err := second.Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Fatalf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			ipctest.MustDial(t, address)
			ipctest.Stop(t, first)
			ipctest.MustListenAt(t, second)
		})
	}
	for _, transport := range ipctest.Transports {
		t.Run(transport.Name+" of a stranger", func(t *testing.T) {
			address := transport.Address(t)
			network, name := "unix", strings.TrimPrefix(address, "unix:")
			if rest, ok := strings.CutPrefix(address, "tcp://"); ok {
				network, name = "tcp", rest
			}
			l, err := net.Listen(network, name)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := ipctest.NewReader(t, address).Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Errorf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			ipctest.MustDial(t, address)
		})
	}
}

// TestSocket_ConcurrentStarts_OneWins starts Readers at the same moment, over a stale socket or none.
func TestSocket_ConcurrentStarts_OneWins(t *testing.T) {
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
	path := ipctest.SocketPath(t)
	if stale {
		ipctest.LeaveStale(t, path)
	}
	readers := make([]*udsipc.Reader, n)
	for i := range readers {
		readers[i] = ipctest.NewReader(t, path)
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
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
	ipctest.Until(t, "the winner has the message", func() bool { return readers[winner].Metrics().Received == 1 })
	conn.Close()
	for i, r := range readers {
		if i != winner {
			ipctest.Stop(t, r)
		}
	}
	if ipctest.Lstat(t, path) == nil {
		t.Fatalf("stale %v: a loser removed the winner's socket", stale)
	}
	ipctest.Stop(t, readers[winner])
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

// TestSocket_StartDuringStop_KeepsSocket starts a Reader while another one of the same path stops:
// it is refused, or its socket is there afterwards.
func TestSocket_StartDuringStop_KeepsSocket(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	path := ipctest.SocketPath(t)
	for round := range 60 {
		first, second := ipctest.StartReader(t, ipctest.Ignore, path), ipctest.NewReader(t, path)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			ipctest.Stop(t, first)
		}()
		err := second.Start()
		for errors.Is(err, udsipc.ErrSocketInUse) {
			err = second.Start()
		}
		<-stopped
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		ipctest.MustDial(t, path).Close()
		ipctest.Stop(t, second)
		ipctest.CheckEmpty(t, filepath.Dir(path))
	}
}

// TestSocket_KilledReader_IsReplaced by the next one, whatever it was doing.
func TestSocket_KilledReader_IsReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
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
	if err := os.WriteFile(ipctest.LockFile(path), nil, 0o600); err != nil { // Of one that was killed in its Start.
		t.Fatal(err)
	}
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.MustDial(t, path)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

func init() {
	// A contender starts a Reader at each path that it is told, says how that went, and stops it when
	// it is told anything else.
	ipctest.Roles["contender"] = func() error {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			r, err := udsipc.NewReader(ipctest.Ignore, in.Text())
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
	cmd := ipctest.Process(tb, "contender")
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

// TestSocket_ConcurrentProcesses_OneWins is TestSocket_ConcurrentStarts_OneWins between processes.
func TestSocket_ConcurrentProcesses_OneWins(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	contenders := []*contender{startContender(t), startContender(t)}
	for round := range 100 {
		path := ipctest.SocketPath(t)
		if round%2 == 0 {
			ipctest.LeaveStale(t, path)
		}
		for i := range contenders { // The other way round each second time.
			contenders[(round/2+i)%2].tell(t, path)
		}
		said := []string{contenders[0].says(t), contenders[1].says(t)}
		if slices.Sort(said); !slices.Equal(said, []string{"in use", "won"}) {
			t.Fatalf("round %d: %q, want one that won", round, said)
		}
		ipctest.MustDial(t, path).Close()
		for _, c := range contenders {
			c.tell(t, "stop")
			if got := c.says(t); got != "stopped" {
				t.Fatalf("round %d: %q", round, got)
			}
		}
		ipctest.CheckEmpty(t, filepath.Dir(path))
	}
	for _, c := range contenders {
		c.ends(t)
	}
}

// TestSocket_DatagramSocket_IsNotReplaced: it has an owner, though nobody can connect to it.
func TestSocket_DatagramSocket_IsNotReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := ipctest.Lstat(t, path)
	r := ipctest.NewReader(t, path)
	if err := r.Start(); !errors.Is(err, udsipc.ErrSocketInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want %v at %s", err, udsipc.ErrSocketInUse, path)
	}
	ipctest.Stop(t, r)
	if after := ipctest.Lstat(t, path); after == nil || !os.SameFile(before, after) {
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

func TestSocket_OtherFile_IsNotReplaced(t *testing.T) {
	for _, test := range []struct {
		says string
		make func(path string) error
	}{
		{"a regular file", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a symbolic link", func(path string) error { return os.Symlink("nowhere", path) }},
		{"a symbolic link to a stale socket", func(path string) error {
			ipctest.LeaveStale(t, path+".stale")
			return os.Symlink(path+".stale", path)
		}},
		{"a named pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
	} {
		t.Run(test.says, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			before := ipctest.Lstat(t, path)
			says, _, _ := strings.Cut(test.says, " to ")
			r := ipctest.NewReader(t, path)
			for range 2 {
				err := r.Start()
				if !errors.Is(err, udsipc.ErrInvalidSocketPath) || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v, want %v and %q", err, udsipc.ErrInvalidSocketPath, says)
				}
			}
			ipctest.Stop(t, r)
			if after := ipctest.Lstat(t, path); after == nil || !os.SameFile(before, after) ||
				after.ModTime() != before.ModTime() {
				t.Errorf("there was %v, now %v", before, after)
			}
			if strings.Contains(test.says, "stale") && ipctest.Lstat(t, path+".stale") == nil {
				t.Error("the stale socket behind the link is gone")
			}
		})
	}
}

func TestSocket_Stop_RemovesOwnSocketOnly(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"another's socket": func(path string) error { ipctest.LeaveStale(t, path); return nil },
		"regular file":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"nothing":          func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			r := ipctest.StartReader(t, ipctest.Ignore, path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			before := ipctest.Lstat(t, path)
			ipctest.Stop(t, r)
			after := ipctest.Lstat(t, path)
			if (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
				t.Errorf("there was %v, now %v", before, after)
			}
		})
	}
	t.Run("directory gone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "f")
		r := ipctest.StartReader(t, ipctest.Ignore, filepath.Join(dir, "s"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		ipctest.Stop(t, r)
	})
	t.Run("another Reader's", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		first := ipctest.StartReader(t, ipctest.Ignore, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		second := ipctest.StartReader(t, ipctest.Ignore, path)
		ipctest.Stop(t, first)
		ipctest.MustDial(t, path)
		ipctest.Until(t, "the second has the connection", func() bool { return second.Metrics().Accepted == 1 })
	})
}

// TestSocket_LockHeld_WaitsThenFails has another process of this user hold the lock for longer than
// a Reader waits, and then end without removing it.
func TestSocket_LockHeld_WaitsThenFails(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	lock, err := os.OpenFile(ipctest.LockFile(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := ipctest.NewReader(t, path)
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
	if ipctest.Lstat(t, ipctest.LockFile(path)) != nil {
		t.Error("the lock file was left behind")
	}
}

// TestSocket_SharedLock_IsNotWaitedFor is not waited for: neither the directory's, which takes no
// more than permission to read it, nor one on a file that is not this user's alone.
func TestSocket_SharedLock_IsNotWaitedFor(t *testing.T) {
	for name, open := range map[string]func(path string) (*os.File, error){
		"the directory": func(path string) (*os.File, error) { return os.Open(filepath.Dir(path)) },
		"a file that all may read": func(path string) (*os.File, error) {
			return os.OpenFile(ipctest.LockFile(path), os.O_RDWR|os.O_CREATE, 0o644)
		},
		"a directory in the lock file's place": func(path string) (*os.File, error) {
			if err := os.Mkdir(ipctest.LockFile(path), 0o700); err != nil {
				return nil, err
			}
			return os.Open(filepath.Dir(path))
		},
		"a symbolic link in the lock file's place": func(path string) (*os.File, error) {
			if err := os.Symlink("elsewhere", ipctest.LockFile(path)); err != nil {
				return nil, err
			}
			return os.Open(filepath.Dir(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			f, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			before := ipctest.Lstat(t, ipctest.LockFile(path))
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
				t.Fatal(err)
			}
			ipctest.LeaveStale(t, path)
			r := ipctest.NewReader(t, path)
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
			if ipctest.Lstat(t, path) != nil {
				t.Error("the socket was left behind")
			}
			if after := ipctest.Lstat(t, ipctest.LockFile(path)); (before == nil) != (after == nil) ||
				after != nil && !os.SameFile(before, after) {
				t.Errorf("in the lock file's place was %v, now %v", before, after)
			}
			if ipctest.Lstat(t, filepath.Join(filepath.Dir(path), "elsewhere")) != nil {
				t.Error("the lock was made through a symbolic link")
			}
		})
	}
}
