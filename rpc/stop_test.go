// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// TestServer_Restarts_LoseNoCall: a server that stops finishes what was sent to it, over every
// transport, and what was not sent waits for the next. No call is lost, none is handled twice.
func TestServer_Restarts_LoseNoCall(t *testing.T) {
	t.Parallel()
	const restarts, callers = 8, 8
	overTransports(t, func(t *testing.T, p *place) {
		var handled, notified sync.Map
		var twice atomic.Int64
		prepare := func(s *ours.Server) {
			s.Handle("slow", func(_ context.Context, request []byte) ([]byte, error) {
				time.Sleep(time.Millisecond)
				if _, again := handled.LoadOrStore(string(request), true); again {
					twice.Add(1)
				}
				return request, nil
			})
			s.Handle("note", func(_ context.Context, data []byte) ([]byte, error) {
				notified.Store(string(data), true)
				return nil, nil
			})
		}
		s := p.serve(t, prepare)
		c := p.dial(t)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var calls, notes atomic.Int64
		for g := range callers {
			all.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					request := fmt.Appendf(nil, "%d %d %s", g, n, bytes.Repeat([]byte("x"), n*997%40_000))
					if response, err := c.Call(t.Context(), "slow", request); err != nil || !bytes.Equal(response, request) {
						t.Errorf("call %.10q: %.10q, %v", request, response, err)
						return
					}
					calls.Add(1)
				}
			})
		}
		all.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
				if err := c.Notify("note", fmt.Append(nil, notes.Load())); err != nil {
					t.Errorf("notification %d: %v", notes.Load(), err)
					return
				}
				notes.Add(1)
			}
		})
		for range restarts {
			before := calls.Load()
			ipctest.Until(t, "calls are answered", func() bool { return calls.Load() > before+20 || t.Failed() })
			ipctest.Stop(t, s)
			s = p.serve(t, prepare)
		}
		cancel()
		all.Wait()
		ipctest.Stop(t, c)
		ipctest.Stop(t, s)
		count := 0
		handled.Range(func(any, any) bool { count++; return true })
		if int64(count) != calls.Load() || twice.Load() > 0 {
			t.Errorf("%d calls were handled, %d answered, %d handled twice", count, calls.Load(), twice.Load())
		}
		for n := range notes.Load() {
			if _, ok := notified.Load(fmt.Sprint(n)); !ok {
				t.Errorf("notification %d of %d was lost", n, notes.Load())
			}
		}
	})
}

// TestStream_ServerStops_DeliversEverything: what a handler sends after the stop has begun arrives,
// however much more than the window it is, and what the client had sent before is received.
func TestStream_ServerStops_DeliversEverything(t *testing.T) {
	t.Parallel()
	const messages, size = 100, 64 << 10
	overTransports(t, func(t *testing.T, p *place) {
		received := make(chan int, 1)
		s := p.serve(t, func(s *ours.Server) {
			s.HandleStream("report", func(ctx context.Context, s *ours.Stream) error {
				n := 0
				for ; ; n++ {
					if _, err := s.Receive(); ours.CodeOf(err) == ours.CodeConnectionLost { // The server stops.
						break
					} else if err != nil {
						return err
					}
				}
				received <- n
				for range messages {
					if err := s.Send(make([]byte, size)); err != nil {
						return err
					}
				}
				return nil
			})
		})
		stream, err := p.dial(t).OpenStream(t.Context(), "report", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for range messages {
			if err := stream.Send([]byte("before")); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.Until(t, "it is open", func() bool { return s.ActiveCalls() == 1 })
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(t.Context()) }() // Ends with the stream.
		if n := <-received; n != messages {
			t.Errorf("the handler received %d of %d messages", n, messages)
		}
		if err := stream.Send(nil); ours.CodeOf(err) != ours.CodeConnectionLost {
			t.Errorf("Send to a server that stops: %v", err)
		}
		for n := 0; ; n++ {
			data, err := stream.Receive()
			if err == io.EOF && n == messages {
				break
			}
			if err != nil || len(data) != size {
				t.Fatalf("after %d of %d messages: %d bytes, %v", n, messages, len(data), err)
			}
		}
		if err := <-stopped; err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
}

// TestStream_EndedInOrder_ReadsEOF says so although its connection has ended before the last message was received.
func TestStream_EndedInOrder_ReadsEOF(t *testing.T) {
	t.Parallel()
	const messages = 10
	overTransports(t, func(t *testing.T, p *place) {
		s := p.serve(t, func(s *ours.Server) {
			s.HandleStream("few", func(_ context.Context, s *ours.Stream) error {
				for n := range messages {
					if err := s.Send(fmt.Append(nil, n)); err != nil {
						return err
					}
				}
				return nil
			})
		})
		lost := make(chan struct{}, 1)
		c := p.dial(t, udsipc.WithStateCallback(func(state udsipc.State, _ error) {
			if state == udsipc.StateDisconnected {
				lost <- struct{}{}
			}
		}))
		stream, err := c.OpenStream(t.Context(), "few", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		ipctest.Until(t, "the handler has been called",
			func() bool { return s.Metrics().Received > 0 && s.ActiveCalls() == 0 })
		ipctest.Stop(t, s)
		<-lost
		for n := range messages {
			if data, err := stream.Receive(); err != nil || string(data) != fmt.Sprint(n) {
				t.Fatalf("message %d: %q, %v", n, data, err)
			}
		}
		for range 2 {
			if _, err := stream.Receive(); err != io.EOF {
				t.Errorf("behind the last message: %v", err)
			}
		}
	})
}

// TestStream_Error_FollowsMessages arrive before it.
func TestStream_Error_FollowsMessages(t *testing.T) {
	t.Parallel()
	const messages = 40 // Two windows and more.
	overTransports(t, func(t *testing.T, p *place) {
		p.serve(t, func(s *ours.Server) {
			s.HandleStream("fails", func(_ context.Context, s *ours.Stream) error {
				for range messages {
					if err := s.Send(make([]byte, 64<<10)); err != nil {
						return err
					}
				}
				return &ours.Error{Code: ours.CodeFirstUser, Message: "no more"}
			})
		})
		c := p.dial(t)
		for range 5 {
			stream, err := c.OpenStream(t.Context(), "fails", nil)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; err == nil; n++ {
				_, err = stream.Receive()
			}
			if n-1 != messages || ours.CodeOf(err) != ours.CodeFirstUser {
				t.Errorf("%d of %d messages, and then %v", n-1, messages, err)
			}
			stream.Close()
		}
	})
}

// TestServer_StopSilentClient_Ends the goodbye: it ends all the same, and what the client had sent is answered.
func TestServer_StopSilentClient_Ends(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, nil)
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage([]byte("\x01\x01\x00\x04echox")); err != nil {
		t.Fatal(err)
	}
	ipctest.Stop(t, s)
	var got []string
	for data, err := range conn.Messages() {
		if err != nil {
			t.Error(err)
			break
		}
		if data[0] == 0x0a {
			data = data[:1] // What it holds is by chance.
		}
		got = append(got, string(data))
	}
	if want := [2]string{"\x02\x01x", "\x0a"}; fmt.Sprint(got) != fmt.Sprint(want[:]) &&
		fmt.Sprint(got) != fmt.Sprint([]string{want[1], want[0]}) {
		t.Errorf("%q, want %q in any order", got, want)
	}
}

// TestServer_StaleGoodbyeReply_IsIgnored, which comes late, is not taken for the answer: what follows it is handled.
func TestServer_StaleGoodbyeReply_IsIgnored(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, nil)
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ipctest.Until(t, "it is accepted", func() bool { return s.Metrics().Connections == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }() // Ends with the answer.
	question, err := conn.ReadMessage()
	if err != nil || len(question) < 2 || question[0] != 0x0a {
		t.Fatalf("%q, %v, want a goodbye", question, err)
	}
	answer := string(question)
	for _, message := range []string{"\x0a", "\x0aanother", "\x01\x01\x00\x04echox", answer} {
		if err := conn.WriteMessage([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	if response, err := conn.ReadMessage(); err != nil || string(response) != "\x02\x01x" {
		t.Errorf("%q, %v", response, err)
	}
	if _, err := conn.ReadMessage(); err != io.EOF {
		t.Errorf("behind the response: %v", err)
	}
	conn.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestServer_RunFails_MayRunAgain: as a Start that fails, it leaves the Server as it was.
func TestServer_RunFails_MayRunAgain(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	other := ipctest.NewReader(t, address)
	ipctest.MustListenAt(t, other)
	s, err := ours.NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("echo", echo)
	if err := s.Run(t.Context()); !errors.Is(err, udsipc.ErrSocketInUse) || ours.WorkersEnd(s) {
		t.Fatalf("Run: %v; its workers end: %v", err, ours.WorkersEnd(s))
	}
	ipctest.Stop(t, other)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }() // Ends with ctx.
	callWithin(t, dial(t, address), 5*time.Second, "echo", nil)
	cancel()
	if err := ipctest.Await(t, "Run", result); err != nil || !ours.WorkersEnd(s) {
		t.Errorf("Run: %v; its workers end: %v", err, ours.WorkersEnd(s))
	}
}
