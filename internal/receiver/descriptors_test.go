// SPDX-License-Identifier: Apache-2.0

//go:build linux

package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// withFewDescriptors returns a role that runs in a directory of its own and has 40 descriptors at most.
func withFewDescriptors(run func(dir string) error) func() error {
	return func() error {
		dir, err := os.MkdirTemp("", "udsipc")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		limit := syscall.Rlimit{Cur: 40, Max: 40}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		return run(dir)
	}
}

// TestReader_OutOfDescriptors_Recovers: a reader that cannot accept waits, and goes on within a second of the moment at
// which it can again, without a busy loop.
func TestReader_OutOfDescriptors_Recovers(t *testing.T) {
	service := ipctest.StartService(t, ipctest.Process(t, "few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["few descriptors"] = withFewDescriptors(func(dir string) error {
		got := make(chan string, 100)
		r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil },
			dir+"/s", udsipc.WithMaxAcceptErrors(0))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		const rounds = 10
		soonest := time.Hour
		for round := range rounds {
			took, err := exhaustOnce(r, dir+"/s", got)
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			soonest = min(soonest, took)
		}
		if soonest > time.Second { // One that is late may be the machine's fault.
			return fmt.Errorf("in none of %d rounds it went on within a second, but after %v at the soonest", rounds, soonest)
		}
		if m := r.Metrics(); m.AcceptErrors == 0 || m.AcceptErrors > 100*rounds {
			return fmt.Errorf("%d errors of accept in %d rounds", m.AcceptErrors, rounds)
		}
		fmt.Println("done")
		return nil
	})
}

// TestReader_StopOutOfDescriptors_ServesBacklog: who waits in the backlog is served, with the
// descriptors of those that end.
func TestReader_StopOutOfDescriptors_ServesBacklog(t *testing.T) {
	service := ipctest.StartService(t, ipctest.Process(t, "stop with few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["stop with few descriptors"] = withFewDescriptors(func(dir string) error {
		path := dir + "/s"
		var got atomic.Int64
		r, err := udsipc.NewReader(func([]byte) error { got.Add(1); return nil }, path)
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		var conns []net.Conn
		began := time.Now()
		for err == nil && time.Since(began) < 5*time.Second { // Until there is no descriptor left, at this end or the other.
			var conn net.Conn
			if conn, err = net.Dial("unix", path); err == nil {
				conns = append(conns, conn)
				_, err = conn.Write(ipctest.Frames("x"))
			}
			for len(conns) == 1 && got.Load() == 0 && time.Since(began) < 5*time.Second {
				time.Sleep(time.Millisecond) // One at least gives its descriptor back.
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			return err
		}
		if got.Load() != int64(len(conns)) {
			return fmt.Errorf("%d of %d messages came: %+v", got.Load(), len(conns), r.Metrics())
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the socket is still there: %w", err)
		}
		fmt.Println("done")
		return nil
	})
}

// TestReader_StartOutOfDescriptors_LeavesNothing, with none left to with enough: a Start that fails
// says why, leaves nothing, and may be repeated.
func TestReader_StartOutOfDescriptors_LeavesNothing(t *testing.T) {
	t.Parallel()
	service := ipctest.StartService(t, ipctest.Process(t, "start with few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["start with few descriptors"] = withFewDescriptors(func(dir string) error {
		for left := range 12 {
			if err := startWith(left, filepath.Join(dir, "s")); err != nil {
				return fmt.Errorf("with %d descriptors: %w", left, err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) > 0 {
				return fmt.Errorf("with %d descriptors: %v are left, %w", left, entries, err)
			}
		}
		fmt.Println("done")
		return nil
	})
}

// startWith starts a Reader with so many descriptors, then with enough of them, and stops it.
func startWith(left int, path string) error {
	r, err := udsipc.NewReader(ipctest.Ignore, path)
	if err != nil {
		return err
	}
	var files []*os.File
	for err == nil {
		var file *os.File
		if file, err = os.Open(os.DevNull); err == nil {
			files = append(files, file)
		}
	}
	closeAll(files[:left])
	started := r.Start()
	_, found := os.Lstat(path)
	closeAll(files[left:])
	switch {
	case started == nil:
	case !errors.Is(started, syscall.EMFILE) || errors.Is(started, udsipc.ErrSocketInUse):
		return fmt.Errorf("Start: %w, want %w", started, syscall.EMFILE)
	case !errors.Is(found, fs.ErrNotExist):
		return fmt.Errorf("the socket was left: %w", found)
	}
	if err := r.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.Stop(ctx)
}

// errSpared means that the reader had a descriptor after all: accept(2) takes one for a moment, also when it finds no
// connection, which is then missing or left over in the count of the test.
var errSpared = errors.New("the reader had a descriptor after all")

// exhaustOnce repeats exhaust until the reader has none.
func exhaustOnce(r *udsipc.Reader, path string, got <-chan string) (took time.Duration, err error) {
	for range 100 {
		if took, err = exhaust(r, path, got); !errors.Is(err, errSpared) {
			break
		}
	}
	return took, err
}

// exhaust takes all descriptors but one, with which a client connects, so that the reader has none to
// accept it with; and gives them back. The reader has ended the connection of the round before it by then.
func exhaust(r *udsipc.Reader, path string, got <-chan string) (took time.Duration, err error) {
	if err := untilAlone(r); err != nil {
		return 0, err
	}
	before := r.Metrics().AcceptErrors
	var files []*os.File
	defer func() { closeAll(files) }()
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, file)
	}
	if len(files) < 5 {
		return 0, fmt.Errorf("only %d descriptors were left", len(files))
	}
	files[0].Close()
	files = files[1:]
	conn, err := net.Dial("unix", path)
	if errors.Is(err, syscall.EMFILE) {
		return 0, errSpared
	}
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(ipctest.Frames("waits in the backlog")); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(time.Minute); r.Metrics().AcceptErrors == before; time.Sleep(time.Millisecond) {
		select {
		case <-got:
			return 0, errSpared
		default:
		}
		if time.Now().After(deadline) {
			return 0, errors.New("accept neither failed nor took the connection in a minute")
		}
	}
	closeAll(files)
	files = nil
	began := time.Now()
	select {
	case <-got:
		return time.Since(began), nil
	case <-time.After(time.Minute):
		return 0, errors.New("nothing came within a minute")
	}
}

// closeAll gives descriptors back.
func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// untilAlone waits until a reader has no connection left, and so has given back their descriptors.
func untilAlone(r *udsipc.Reader) error {
	for deadline := time.Now().Add(time.Minute); r.Metrics().Connections > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("a connection that its client has closed is still open")
		}
	}
	return nil
}
