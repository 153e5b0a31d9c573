// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
