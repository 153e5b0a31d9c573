// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// A listening end is what Run and Close are there for twice: a Reader and the servers.
type listeningEnd interface {
	io.Closer
	Start() error
	Run(ctx context.Context) error
	Stop(ctx context.Context) error
	Addr() net.Addr
}

var listeningEnds = map[string]func(address string, opts ...udsipc.ReaderOption) (listeningEnd, error){
	"Reader": func(address string, opts ...udsipc.ReaderOption) (listeningEnd, error) {
		return udsipc.NewReader(ipctest.Ignore, address, opts...)
	},
	"duplex": func(address string, opts ...udsipc.ReaderOption) (listeningEnd, error) {
		ignore := func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil }
		return duplex.NewServer(address, ignore, opts...)
	},
	"rpc": func(address string, opts ...udsipc.ReaderOption) (listeningEnd, error) {
		return rpc.NewServer(address, opts...)
	},
}

// overListeningEnds runs a test with each kind, not started yet.
func overListeningEnds(t *testing.T,
	test func(t *testing.T, end func(...udsipc.ReaderOption) listeningEnd, path string)) {
	for name, create := range listeningEnds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ipctest.SocketPath(t)
			test(t, func(opts ...udsipc.ReaderOption) listeningEnd {
				end, err := create(path, opts...)
				if err != nil {
					t.Fatal(err)
				}
				return end
			}, path)
		})
	}
}

// startRun calls Run, and returns when the end listens.
func startRun(t *testing.T, ctx context.Context, end listeningEnd) (result <-chan error) {
	t.Helper()
	if err := end.Start(); err != nil { // Run goes on with what was started.
		t.Fatal(err)
	}
	errs := make(chan error, 1)
	go func() { errs <- end.Run(ctx) }()
	return errs
}

func TestRun_ContextEnds_ReturnsNil(t *testing.T) {
	t.Parallel()
	overListeningEnds(t, func(t *testing.T, create func(...udsipc.ReaderOption) listeningEnd, path string) {
		ctx, cancel := context.WithCancel(t.Context())
		end := create()
		result := startRun(t, ctx, end)
		ipctest.MustDial(t, path) // A connection that stays open delays nobody.
		cancel()
		if err := ipctest.Await(t, "Run", result); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := end.Run(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
			t.Errorf("Run after its end: %v, want ErrStopped", err)
		}
		if err := end.Close(); err != nil {
			t.Errorf("Close after Run: %v", err)
		}
	})
}

// TestRun_StartFails_ReturnsItsError: also with a context that has ended.
func TestRun_StartFails_ReturnsItsError(t *testing.T) {
	t.Parallel()
	overListeningEnds(t, func(t *testing.T, create func(...udsipc.ReaderOption) listeningEnd, path string) {
		ipctest.StartReader(t, ipctest.Ignore, path)
		if err := create().Run(t.Context()); !errors.Is(err, udsipc.ErrSocketInUse) {
			t.Errorf("Run: %v, want ErrSocketInUse", err)
		}
	})
}

func TestRun_AcceptFails_ReturnsTheCause(t *testing.T) {
	t.Parallel()
	overListeningEnds(t, func(t *testing.T, create func(...udsipc.ReaderOption) listeningEnd, _ string) {
		broken := errors.New("this listener is broken")
		listener := &ipctest.FailingListener{Listener: ipctest.ListenInMemory(), Errs: make(chan error, 2)}
		listener.Errs <- broken
		listener.Errs <- broken
		result := startRun(t, t.Context(), create(udsipc.WithListener(listener), udsipc.WithMaxAcceptErrors(1)))
		if err := ipctest.Await(t, "Run", result); !errors.Is(err, broken) {
			t.Errorf("Run: %v, want the listener's error", err)
		}
	})
}

// TestRun_ListenerIsClosed_ReturnsTheCause: a listener of the program that it closes itself.
func TestRun_ListenerIsClosed_ReturnsTheCause(t *testing.T) {
	t.Parallel()
	overListeningEnds(t, func(t *testing.T, create func(...udsipc.ReaderOption) listeningEnd, _ string) {
		listener := ipctest.ListenInMemory()
		result := startRun(t, t.Context(), create(udsipc.WithListener(listener)))
		_ = listener.Close()
		if err := ipctest.Await(t, "Run", result); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v, want net.ErrClosed", err)
		}
	})
}

// TestRun_AnotherStops_Returns: the error of that Stop is its caller's.
func TestRun_AnotherStops_Returns(t *testing.T) {
	t.Parallel()
	overListeningEnds(t, func(t *testing.T, create func(...udsipc.ReaderOption) listeningEnd, _ string) {
		end := create()
		result := startRun(t, t.Context(), end)
		ipctest.Stop(t, end)
		// Run may begin after Stop.
		if err := ipctest.Await(t, "Run", result); err != nil && !errors.Is(err, udsipc.ErrStopped) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestClose_HungHandler_IsBounded: Close of a Reader, and Run's end, do not wait for longer than they may.
func TestClose_HungHandler_IsBounded(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, 10 * time.Millisecond} {
		path, called, release := ipctest.SocketPath(t), make(chan struct{}), make(chan struct{})
		defer close(release)
		r, err := udsipc.NewReader(func([]byte) error {
			close(called)
			<-release
			return nil
		}, path, udsipc.WithCloseTimeout(timeout))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := startRun(t, ctx, r)
		ipctest.Send(t, path, "hang")
		ipctest.Await(t, "the handler", called)
		cancel()
		err = ipctest.Await(t, "Run", result)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "WithCloseTimeout") {
			t.Errorf("Run with %v: %v, want a deadline that names WithCloseTimeout", timeout, err)
		}
	}
}

// TestClose_NobodyListens_ReturnsMessages: what a sending end has left is counted, and returned to the program.
func TestClose_NobodyListens_ReturnsMessages(t *testing.T) {
	t.Parallel()
	const messages = 3
	var returned int
	w, err := udsipc.NewWriter(ipctest.SocketPath(t), udsipc.WithCloseTimeout(time.Millisecond),
		udsipc.WithUndelivered(func([]byte) { returned++ }))
	if err != nil {
		t.Fatal(err)
	}
	l, err := udsipc.NewLink(ipctest.SocketPath(t), func([]byte) {}, udsipc.WithCloseTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]interface {
		io.Closer
		Start() error
		WriteMessage([]byte) error
	}{"Writer": w, "Link": l} {
		if err := end.Start(); err != nil {
			t.Fatal(err)
		}
		for range messages {
			if err := end.WriteMessage([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		err := end.Close()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 messages") ||
			!strings.Contains(err.Error(), "WithCloseTimeout(1ms)") {
			t.Errorf("Close of a %s: %v, want a deadline, the number of messages and WithCloseTimeout(1ms)", name, err)
		}
		if err := end.Close(); err != nil {
			t.Errorf("Close of a %s again: %v", name, err)
		}
	}
	if returned != messages {
		t.Errorf("%d messages were returned, want %d", returned, messages)
	}
}

// TestClose_ReaderListens_Delivers: Close is graceful while there is time.
func TestClose_ReaderListens_Delivers(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const messages = 1000
		s := ipctest.NewSequence(t, messages)
		r := on.StartReader(t, s.Handle)
		w := on.NewWriter(t, udsipc.WithCloseTimeout(time.Minute))
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(messages) {
			if err := w.WriteMessage(ipctest.Number(n, 20)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close of the Writer: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close of the Reader: %v", err)
		}
		if got := r.Metrics().Received; got != messages {
			t.Errorf("%d messages were received, want %d", got, messages)
		}
	})
}

// TestClose_Clients_AreBounded: the clients of conversations have the bound of their Link.
func TestClose_Clients_AreBounded(t *testing.T) {
	t.Parallel()
	caller, err := rpc.NewClient(ipctest.SocketPath(t), udsipc.WithCloseTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := duplex.NewClient(ipctest.SocketPath(t), udsipc.WithCloseTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []interface{ Start() error }{caller, sender} {
		if err := end.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.Send(duplex.Message{Type: 1}); err != nil {
		t.Fatal(err)
	}
	if err := caller.Notify("x", nil); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]io.Closer{"rpc": caller, "duplex": sender} {
		if err := end.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close of a client of %s: %v, want a deadline", name, err)
		}
	}
}

func TestWithCloseTimeout_Negative_IsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	_, err := udsipc.NewWriter(path, udsipc.WithCloseTimeout(-1))
	if !errors.Is(err, udsipc.ErrInvalidTimeout) || !strings.Contains(err.Error(), "WithCloseTimeout(-1ns)") {
		t.Errorf("NewWriter: %v", err)
	}
	_, err = udsipc.NewReader(ipctest.Ignore, path, udsipc.WithCloseTimeout(-1))
	if !errors.Is(err, udsipc.ErrInvalidTimeout) {
		t.Errorf("NewReader: %v", err)
	}
}
