// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// soon waits for an event that has to come.
func soon(tb testing.TB, what string, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		tb.Errorf("waited 5 s: %s", what)
	}
}

// fillQueue has the server of c look at nothing until release is closed, and fills the queue of c.
func fillQueue(t *testing.T, c *ours.Client, entered <-chan struct{}) {
	t.Helper()
	if err := c.Notify("slow", nil); err != nil {
		t.Fatal(err)
	}
	<-entered
	for c.Notify("echo", make([]byte, 100<<10)) == nil {
	}
}

// TestClient_FullQueue_SendsCreditsAndCancels: what frees or ends something at the server is not
// lost, and no stream stands still for it.
func TestClient_FullQueue_SendsCreditsAndCancels(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, p *place) {
		entered, release := make(chan struct{}, 1), make(chan struct{})
		sent, over, called := make(chan struct{}, 3), make(chan struct{}), make(chan struct{})
		s := p.serve(t, func(s *ours.Server) {
			s.Handle("slow", func(context.Context, []byte) ([]byte, error) { entered <- struct{}{}; <-release; return nil, nil })
			s.Handle("call", func(ctx context.Context, _ []byte) ([]byte, error) {
				<-ctx.Done()
				close(called)
				return nil, nil
			})
			s.HandleStream("wait", func(ctx context.Context, _ *ours.Stream) error { <-ctx.Done(); close(over); return nil })
			s.HandleStream("feed", func(_ context.Context, s *ours.Stream) error {
				for range 3 {
					if err := s.Send(make([]byte, 2<<20)); err != nil {
						return err
					}
					sent <- struct{}{}
				}
				return nil
			})
		})
		c := p.dial(t, udsipc.WithMaxBufferedWrites(20))
		feed, err := c.OpenStream(t.Context(), "feed", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		waits, err := c.OpenStream(t.Context(), "wait", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan struct{})
		go func() { // Ends with the context.
			defer close(failed)
			if _, err := c.Call(ctx, "call", nil); ours.CodeOf(err) != ours.CodeCanceled {
				t.Error(err)
			}
		}()
		<-sent
		ipctest.Until(t, "all are under way", func() bool { return s.ActiveCalls() == 3 })
		fillQueue(t, c, entered)
		if _, err := feed.Receive(); err != nil { // Gives credit.
			t.Fatal(err)
		}
		waits.Close()
		cancel()
		<-failed
		close(release)
		got := make(chan struct{})
		go func() { // Ends with the stream.
			defer close(got)
			if _, err := feed.Receive(); err != nil {
				t.Error(err)
			}
		}()
		soon(t, "the stream goes on", got)
		soon(t, "the handler of the closed stream is told", over)
		soon(t, "the handler of the cancelled call is told", called)
	})
}

// TestStream_OversizedMessage_FailsAtBothEnds, whichever end it is at which a message is too large.
func TestStream_OversizedMessage_FailsAtBothEnds(t *testing.T) {
	t.Parallel()
	const small = 1 << 20
	for name, test := range map[string]struct {
		server []udsipc.ReaderOption
		client []udsipc.WriterOption
		method string
		send   int
	}{
		"too large for the client": {client: []udsipc.WriterOption{udsipc.WithMaxMessageSize(small)}, method: "sends"},
		"too large for the server": {
			server: []udsipc.ReaderOption{udsipc.WithMaxMessageSize(small)}, method: "waits",
			send: 2 * small},
	} {
		t.Run(name, func(t *testing.T) {
			address := ipctest.SocketPath(t)
			over := make(chan struct{})
			s := serve(t, address, func(s *ours.Server) {
				s.HandleStream("sends", func(ctx context.Context, s *ours.Stream) error {
					if err := s.Send(make([]byte, 2*small)); err != nil {
						return err
					}
					<-ctx.Done()
					close(over)
					return nil
				})
				s.HandleStream("waits", func(ctx context.Context, _ *ours.Stream) error { <-ctx.Done(); close(over); return nil })
			}, test.server...)
			stream, err := dial(t, address, test.client...).OpenStream(t.Context(), test.method, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if test.send > 0 {
				if err := stream.Send(make([]byte, test.send)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := stream.Receive(); ours.CodeOf(err) != ours.CodeTooLarge {
				t.Errorf("the client is told: %v", err)
			}
			soon(t, "the handler's context ends", over)
			soon(t, "the client's context ends", stream.Context().Done())
			ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
		})
	}
}

// TestStream_OversizedForClient_DoesNotEndInOrder that was too large for the client does not end in
// order, although its handler has returned.
func TestStream_OversizedForClient_DoesNotEndInOrder(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.HandleStream("sends", func(_ context.Context, s *ours.Stream) error { return s.Send(make([]byte, 2*limit)) })
	})
	c := dial(t, address, udsipc.WithMaxMessageSize(limit))
	for range 200 { // The end may come before the failure is known to all.
		stream, err := c.OpenStream(t.Context(), "sends", nil)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := stream.Receive(); ours.CodeOf(err) != ours.CodeTooLarge {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		stream.Close()
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}
