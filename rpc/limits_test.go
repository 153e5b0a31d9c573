// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// writeAll writes frames until the server takes no more for a while, and returns how many it took whole.
func writeAll(tb testing.TB, conn net.Conn, frames func(n int) []byte) (taken int) {
	tb.Helper()
	for ; ; taken++ {
		b := frames(taken)
		if b == nil {
			return taken
		}
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			tb.Fatal(err)
		}
		if _, err := conn.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
			return taken
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

// callWithin makes a call that has to be answered soon.
func callWithin(tb testing.TB, c *ours.Client, limit time.Duration, method string, request []byte) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	if _, err := c.Call(ctx, method, request); err != nil {
		tb.Errorf("a call of %d bytes of another client: %v", len(request), err)
	}
}

// TestServer_ClientReadsNothing_BlocksNobody do not have the calls of others refused.
func TestServer_ClientReadsNothing_BlocksNobody(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	for _, silent := range []int{1, 5} {
		address := ipctest.SocketPath(t)
		s := serve(t, address, func(s *ours.Server) { s.SetMaxMemory(limit) },
			udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithMaxMessageSize(1<<20))
		honest := dial(t, address)
		var writing sync.WaitGroup
		for range silent {
			conn := rawDial(t, address)
			writing.Go(func() {
				writeAll(t, conn, func(n int) []byte {
					if n == 100 {
						return nil
					}
					return rawCall(uint64(n+1), "echo", make([]byte, 100_000))
				})
			})
		}
		writing.Wait()
		for _, size := range []int{0, 100, 100_000} {
			callWithin(t, honest, 5*time.Second, "echo", make([]byte, size))
		}
		var m ours.ServerMetrics
		ipctest.Until(t, "the silent clients have calls", func() bool {
			m = s.Metrics()
			return m.ResponseBytes > 0 && m.ActiveCalls > 0
		})
		if held := m.RequestBytes + m.ResponseBytes; held > 2*limit {
			t.Errorf(
				"%d silent clients: the server holds %d bytes of requests, %d of responses, %d calls",
				silent, m.RequestBytes, m.ResponseBytes, m.ActiveCalls)
		}
	}
}

// TestServer_PausedReading_HoldsNoReadMemory while a client leaves unread what it has asked for:
// large requests of others are read.
func TestServer_PausedReading_HoldsNoReadMemory(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, 1<<20), nil })
	}, udsipc.WithMaxReadMemory(8<<20))
	honest := dial(t, address)
	for range 5 {
		conn := rawDial(t, address)
		writeAll(t, conn, func(n int) []byte {
			if n == 40 {
				return nil
			}
			return rawCall(uint64(n+1), "large", nil)
		})
		if err := conn.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		// The error goes behind the responses.
		if _, err := conn.Write(rawCall(100, strings.Repeat("a", 4<<20), nil)); err != nil {
			t.Fatal(err)
		}
	}
	callWithin(t, honest, 5*time.Second, "echo", make([]byte, 1<<20))
	ipctest.Until(t, "no read memory is held", func() bool { return s.Metrics().ReadMemory <= 1<<20 })
}

// TestServer_MaxConcurrentCalls_CountsWaitingResponses bounds those whose responses wait as well.
func TestServer_MaxConcurrentCalls_CountsWaitingResponses(t *testing.T) {
	const limit, clients = 100, 20
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.SetMaxConcurrentCalls(limit, limit)
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, 256<<10), nil })
	}, udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithMaxMessageSize(1<<20))
	honest := dial(t, address)
	before := runtime.NumGoroutine()
	for range clients {
		writeAll(t, rawDial(t, address), func(n int) []byte {
			if n == 4*limit {
				return nil
			}
			return rawCall(uint64(n+1), "large", nil)
		})
	}
	if n := runtime.NumGoroutine() - before - 4*clients; n > 2*limit+clients || s.ActiveCalls() > 2*limit+clients {
		t.Errorf("%d goroutines, and %d calls under way; the limit of all is %d", n, s.ActiveCalls(), limit)
	}
	callWithin(t, honest, 5*time.Second, "echo", make([]byte, 100))
}

// TestServer_MaxMemory_BoundsStreams: messages that nobody receives count, and the stream that has
// too many fails at both ends.
func TestServer_MaxMemory_BoundsStreams(t *testing.T) {
	t.Parallel()
	const limit, size = 8 << 20, 1 << 20
	address := ipctest.SocketPath(t)
	over := make(chan error, 100)
	s := serve(t, address, func(s *ours.Server) {
		s.SetMaxMemory(limit)
		s.HandleStream("events", func(ctx context.Context, _ *ours.Stream) error {
			<-ctx.Done()
			over <- ctx.Err()
			return nil
		})
	})
	c, other := dial(t, address), dial(t, address)
	callWithin(t, other, 5*time.Second, "echo", nil) // The memory is shared between two.
	var streams []*ours.ClientStream
	for range 20 {
		stream, err := c.OpenStream(t.Context(), "events", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if err := stream.Send(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("the context of a stream that has failed: %v", err)
	}
	failed := make(chan error, len(streams))
	for _, stream := range streams { // Which of them is too much, their goroutines decide.
		go func() { // Ends with the stream.
			_, err := stream.Receive()
			failed <- err
		}()
	}
	if err := <-failed; ours.CodeOf(err) != ours.CodeResourceExhausted {
		t.Errorf("a stream that was too much: %v", err)
	}
	if n := s.Metrics().StreamBytes; n > limit/2 || n < limit/4 {
		t.Errorf("%d bytes of streams are held, the limit of one connection is %d", n, limit/2)
	}
	callWithin(t, other, 5*time.Second, "echo", make([]byte, 1<<20))
	for _, stream := range streams {
		stream.Close()
	}
	ipctest.Until(t, "all is given back", func() bool {
		m := s.Metrics()
		return m.StreamBytes == 0 && m.ActiveCalls == 0 && m.RequestBytes == 0
	})
}

// TestServer_StallTimeout_EndsClient after WithStallTimeout, reported, and its calls end; one that reads is not.
func TestServer_StallTimeout_EndsClient(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, p *place) {
		reported := make(chan error, 100)
		s := p.serve(t, func(s *ours.Server) {
			s.HandleStream("flood", func(_ context.Context, s *ours.Stream) error {
				for {
					if err := s.Send(make([]byte, 100_000)); err != nil {
						return err
					}
				}
			})
		}, udsipc.WithStallTimeout(100*time.Millisecond),
			udsipc.WithReaderErrorCallback(func(err error, _ string) { reported <- err }))
		honest := p.dial(t)
		callWithin(t, honest, 5*time.Second, "echo", nil)
		opts := []udsipc.WriterOption{}
		if p.client != nil {
			opts = append(opts, udsipc.WithTLS(p.client))
		}
		conn, err := udsipc.Dial(t.Context(), p.address, opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.WriteMessage([]byte("\x06\x01\x00\x05flood\xff\xff\xff\x1f")); err != nil { // A window of 64 MiB.
			t.Fatal(err)
		}
		for err := range reported {
			if errors.Is(err, udsipc.ErrBackpressure) {
				break
			}
		}
		ipctest.Until(t, "its stream has ended", func() bool { return s.ActiveCalls() == 0 && s.Metrics().Connections == 1 })
		if n := s.Metrics().Stalled; n != 1 {
			t.Errorf("%d connections are counted as stalled", n)
		}
		callWithin(t, honest, 5*time.Second, "echo", nil)
	})
}

// TestServer_LongCall_IsNotIdle, however long it takes, nor is a stream that flows one way.
func TestServer_LongCall_IsNotIdle(t *testing.T) {
	t.Parallel()
	const idle = 150 * time.Millisecond
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("slow", func(ctx context.Context, b []byte) ([]byte, error) { time.Sleep(2 * idle); return b, nil })
		s.HandleStream("one way", func(_ context.Context, s *ours.Stream) error {
			for range 2 {
				time.Sleep(idle)
				if err := s.Send(nil); err != nil {
					return err
				}
			}
			return nil
		})
	}, udsipc.WithInactivityTimeout(idle))
	c := dial(t, address)
	callWithin(t, c, 5*time.Second, "slow", nil)
	var err error
	for range 5 {
		// The connection may end for inactivity before the stream is there, if the machine is slow.
		if err = receiveAll(t, c, "one way"); ours.CodeOf(err) != ours.CodeConnectionLost {
			break
		}
	}
	if err != io.EOF {
		t.Error(err)
	}
	ipctest.Until(t, "the idle connection is ended", func() bool { return s.Metrics().Connections == 0 })
}

// receiveAll opens a stream, and returns the error after its last message.
func receiveAll(t *testing.T, c *ours.Client, method string) error {
	t.Helper()
	stream, err := c.OpenStream(t.Context(), method, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for err == nil {
		_, err = stream.Receive()
	}
	return err
}

// TestServer_LongMethodName_IsCut are cut in what is reported and in what the caller is told.
func TestServer_LongMethodName_IsCut(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	reported := make(chan string, 10)
	serve(t, address, nil, udsipc.WithReaderErrorCallback(func(err error, _ string) { reported <- err.Error() }))
	name := bytes.Repeat([]byte{1}, 9<<20)
	c := dial(t, address)
	if err := c.Notify(string(name), nil); err != nil {
		t.Fatal(err)
	}
	if text := <-reported; len(text) > 2000 {
		t.Errorf("a text of %d bytes is reported: %.100s", len(text), text)
	}
	if _, err := c.Call(t.Context(), string(name), nil); ours.CodeOf(err) != ours.CodeUnknownMethod ||
		len(err.Error()) > 2000 {
		t.Errorf("the caller is told %d bytes: %.100v", len(err.Error()), err)
	}
}

// TestServer_ClientReadsNothing_BoundsErrors are bounded as well: whose responses are let go, of
// that nothing more is read.
func TestServer_ClientReadsNothing_BoundsErrors(t *testing.T) {
	t.Parallel()
	const size, queue, calls = 100_000, 200_000, 20_000
	address, ran := ipctest.SocketPath(t), make(chan bool, 1)
	s := serve(t, address, func(s *ours.Server) {
		s.SetMaxMemory(5 * size) // Of which a client has half: two responses, and not quite all of it.
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { ran <- true; return make([]byte, size), nil })
	}, udsipc.WithMaxBufferedBytes(queue), udsipc.WithMaxMessageSize(queue*3/4))
	conn := rawDial(t, address)
	asked, held := 0, false
	for ; asked < calls && !held; asked++ { // One after the other, so that no more are under way than wait.
		if _, err := conn.Write(rawCall(uint64(asked+1), "large", nil)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ran:
			ipctest.Until(t, "the call has ended", func() bool { return asked < 10 || s.ActiveCalls() <= 2 })
		case <-time.After(300 * time.Millisecond):
			held = true
		}
	}
	if m := s.Metrics(); !held || m.SendMemory > 2*queue {
		t.Errorf("%d calls, and %d bytes are queued, want at most %d", asked, m.SendMemory, 2*queue)
	}
	go func() {
		for range ran {
		}
	}()
	defer close(ran)
	answers := bufio.NewReader(conn)
	for range asked {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		length, err := binary.ReadUvarint(answers)
		if err == nil {
			_, err = answers.Discard(int(length))
		}
		if err != nil {
			t.Fatalf("once the client reads, not every call is answered: %v", err)
		}
	}
}

// TestClient_OverflowBlock_ContextEndsWait: a call that waits for space in the queue ends with its context, and one
// whose context goes on ends with Stop.
func TestClient_OverflowBlock_ContextEndsWait(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	l := ipctest.MustListen(t, address)
	defer l.Close()
	c := client(t, address, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBufferedWrites(2))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept() // It reads nothing.
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const calls = 10 // More than the kernel and the queue take.
	ctx, cancel := context.WithCancelCause(t.Context())
	patient, results := make(chan error, 1), make(chan error, 2*calls)
	for range calls {
		go func() { // Ends with ctx.
			_, err := c.Call(ctx, "echo", make([]byte, 1<<20))
			results <- err
		}()
		go func() { // Ends with ctx.
			stream, err := c.OpenStream(ctx, "echo", make([]byte, 1<<20))
			if err == nil {
				_, err = stream.Receive()
				stream.Close()
			}
			results <- err
		}()
	}
	ipctest.Until(t, "all are in flight", func() bool { return ours.PendingCalls(c) == 2*calls })
	cancel(ours.Errorf(ours.CodeNotFound, "of another call"))
	waited := 0
	for range 2 * calls {
		err := ipctest.Await(t, "the call ends", results)
		if ours.CodeOf(err) != ours.CodeCanceled || !errors.Is(err, context.Canceled) ||
			errors.Is(err, &ours.Error{Code: ours.CodeNotFound}) {
			t.Error(err)
		}
		if errors.Is(err, udsipc.ErrBufferFull) {
			waited++
		}
	}
	if waited == 0 {
		t.Error("no call has waited for space")
	}
	go func() { // Ends with Stop.
		_, err := c.Call(context.Background(), "echo", make([]byte, 1<<20))
		patient <- err
	}()
	ipctest.Until(t, "it is in flight", func() bool { return ours.PendingCalls(c) == 1 })
	ended, end := context.WithCancel(t.Context())
	end()
	_ = c.Stop(ended) // Says what is left.
	if err := ipctest.Await(t, "the call ends", patient); ours.CodeOf(err) != ours.CodeStopped {
		t.Error(err)
	}
}
