// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// This file has the tests of which line an error becomes, where that is easily mistaken.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// TestLogger_ShortOutageAfterALongOne_EndsAsItEnded: the line of the outage has to wait, and that of its end
// follows it.
func TestLogger_ShortOutageAfterALongOne_EndsAsItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLineLog()
		var up atomic.Bool
		var current atomic.Pointer[net.Conn]
		w, err := udsipc.NewWriter("nowhere", udsipc.WithLogger(slog.New(lines)),
			udsipc.WithMaxBackoff(100*time.Millisecond),
			udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				if !up.Load() {
					return nowhere(ctx)
				}
				here, there := net.Pipe()
				current.Store(&there)
				go func() { // Ends with the connection.
					for b := make([]byte, 1); ; {
						if _, err := there.Read(b); err != nil {
							return
						}
					}
				}()
				return here, nil
			}))
		if err != nil || w.Start() != nil {
			t.Fatal(err)
		}
		for _, away := range []time.Duration{70 * time.Second, 3 * time.Second, 2 * time.Second} {
			time.Sleep(away)
			up.Store(true)
			if err := w.WaitConnected(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			up.Store(false)
			_ = (*current.Load()).Close()
			_ = w.WriteMessage([]byte("reconnect"))
		}
		up.Store(true)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		all := strings.Split(strings.TrimSpace(lines.all()), "\n")
		if last := all[len(all)-1]; !strings.HasPrefix(last, "INFO udsipc: connected again") {
			t.Errorf("the last line is %s in\n%s", last, lines.all())
		}
		_ = w.Close()
	})
}

// foreignErrors are those of another Writer, with which a program may meet this library again.
func foreignErrors(t *testing.T) []error {
	other := ipctest.NewWriter(t, "another")
	ipctest.MustWriteMessage(t, other, "left")
	return []error{
		other.Stop(ended(t)), fmt.Errorf("passing on: %w", udsipc.ErrBackpressure),
		&udsipc.PossibleLossError{Messages: 7, Err: errors.New("gone")},
	}
}

// TestLogger_ForeignErrors_StayWhatTheyAre: a handler, a dialer or a context that fails with the error of
// another Writer neither becomes a line of that error nor adds its count.
func TestLogger_ForeignErrors_StayWhatTheyAre(t *testing.T) {
	for _, foreign := range foreignErrors(t) {
		lines, path := newLineLog(), ipctest.SocketPath(t)
		logger := udsipc.WithLogger(slog.New(lines))
		entered := make(chan struct{})
		r := ipctest.StartReader(t, func(data []byte) error {
			if len(data) == 0 {
				return foreign
			}
			close(entered)
			<-t.Context().Done()
			return nil
		}, path, logger)
		w := ipctest.NewWriter(t, path)
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, "")
		ipctest.MustWriteMessage(t, w, "hang")
		ipctest.Await(t, "the handler", entered)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(foreign)
		if err := r.Stop(ctx); !errors.Is(err, foreign) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		dialer := func(context.Context) (net.Conn, error) { return nil, foreign }
		dialing := ipctest.NewWriter(t, "nowhere", logger, udsipc.WithDialer(dialer))
		ipctest.MustStart(t, dialing)
		ipctest.Until(t, "it has failed", func() bool { return dialing.Metrics().DialErrors > 1 })
		_ = dialing.Stop(ctx)
		all := lines.all()
		if strings.Count(all, "\n") != 0 || !strings.HasPrefix(all, "WARN udsipc: handler failed") {
			t.Errorf("%v makes\n%s", foreign, all)
		}
	}
}

// TestLogger_StopWithoutDeadline_OfServersAndCalls: each says that it waits, and for what.
func TestLogger_StopWithoutDeadline_OfServersAndCalls(t *testing.T) {
	lines, release, entered := newLineLog(), make(chan struct{}), make(chan struct{}, 3)
	logger := udsipc.WithLogger(slog.New(lines))
	hang := func() { entered <- struct{}{}; <-release }
	r := ipctest.StartReader(t, func([]byte) error { hang(); return nil }, ipctest.SocketPath(t), logger)
	w := ipctest.StartWriter(t, r.Addr().String())
	ipctest.MustWriteMessage(t, w, "x")

	handle := func(context.Context, *duplex.ServerConn, duplex.Message) error { hang(); return nil }
	conversation, err := duplex.NewServer(ipctest.SocketPath(t), handle, logger)
	if err != nil || conversation.Start() != nil {
		t.Fatal(err)
	}
	sends, err := duplex.NewClient(conversation.Addr().String())
	if err != nil || sends.Start() != nil || sends.Send(duplex.Message{}) != nil {
		t.Fatal(err)
	}
	defer sends.Stop(ended(t))

	calls, err := rpc.NewServer(ipctest.SocketPath(t), logger)
	if err != nil {
		t.Fatal(err)
	}
	calls.Handle("hang", func(context.Context, []byte) ([]byte, error) { hang(); return nil, nil })
	if err := calls.Start(); err != nil {
		t.Fatal(err)
	}
	caller, err := rpc.NewClient(calls.Addr().String(), logger)
	if err != nil || caller.Start() != nil {
		t.Fatal(err)
	}
	go func() { _, _ = caller.Call(context.Background(), "hang", nil) }() // Ends with the handler.
	for range 3 {
		ipctest.Await(t, "a handler", entered)
	}
	stops := []interface{ Stop(context.Context) error }{r, conversation, calls, caller}
	stopped := make(chan error, len(stops))
	for _, s := range stops {
		go func() { stopped <- s.Stop(context.Background()) }() // Ends with the handler.
	}
	ipctest.Until(t, "each says that it waits", func() bool {
		all := lines.all()
		return strings.Count(all, "WARN udsipc: Stop waits") == 4 && strings.Contains(all, "1 calls are under way") &&
			strings.Count(all, "1 connections have not ended") == 3
	})
	close(release)
	for range stops {
		if err := ipctest.Await(t, "a Stop", stopped); err != nil {
			t.Error(err)
		}
	}
}

// TestLogger_ServerRejects_ClientIsTold: it is the client that is refused, and its input is not.
func TestLogger_ServerRejects_ClientIsTold(t *testing.T) {
	lines, path := newLineLog(), ipctest.SocketPath(t)
	s, err := rpc.NewServer(path, udsipc.WithAuthorizer(func(udsipc.Peer) error { return errors.New("not you") }),
		udsipc.WithReaderErrorCallback(func(error, string) {}))
	if err != nil || s.Start() != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := rpc.NewClient(path, udsipc.WithLogger(slog.New(lines)))
	if err != nil || c.Start() != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "a line", func() bool {
		return lines.has("WARN udsipc: the peer ends the connections times=1", "err=peer is not authorized: the reader's")
	})
	_ = c.Stop(ended(t))
	if lines.has("refused input") {
		t.Error(lines.all())
	}
}

// TestLogger_ForcedStopOfAServer_DoesNotWaitForTheLogger: only a graceful one does, for a second.
func TestLogger_ForcedStopOfAServer_DoesNotWaitForTheLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, called := make(chan struct{}), make(chan struct{})
		logger := slog.New(slog.NewTextHandler(writerFunc(func(line []byte) (int, error) {
			close(called)
			<-release
			return len(line), nil
		}), nil))
		s, err := duplex.NewServer("memory", func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil },
			udsipc.WithLogger(logger), udsipc.WithListener(brokenListener{}), udsipc.WithMaxAcceptErrors(0))
		if err != nil || s.Start() != nil {
			t.Fatal(err)
		}
		<-called
		began := time.Now()
		_ = s.Stop(ended(t))
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		close(release)
	})
}

// TestLogger_PeerEndsEachConnection_LinkSaysSo, but not if it says why, and not for one that restarts.
func TestLogger_PeerEndsEachConnection_LinkSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLineLog()
		link, err := udsipc.NewLink("nobody", func([]byte) {}, udsipc.WithLogger(slog.New(lines)),
			udsipc.WithMaxBackoff(100*time.Millisecond), udsipc.WithDialer(func(context.Context) (net.Conn, error) {
				here, there := net.Pipe()
				return here, there.Close()
			}))
		if err != nil || link.Start() != nil {
			t.Fatal(err)
		}
		const line = "WARN udsipc: the peer ends the connections times="
		for _, step := range []struct {
			at    time.Duration
			lines int
		}{{900 * time.Millisecond, 0}, {3 * time.Second, 1}, {12 * time.Second, 2}, {62 * time.Second, 3}} {
			time.Sleep(step.at - time.Since(lines.began))
			synctest.Wait()
			if got := strings.Count(lines.all(), line); got != step.lines {
				t.Errorf("%d lines after %v, want %d:\n%s", got, step.at, step.lines, lines.all())
			}
		}
		if !lines.has("err=the peer has ended ", " connections in a row, the last one ") {
			t.Error(lines.all())
		}
		_ = link.Stop(t.Context())
	})
}
