// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

var (
	modelSchedules = flag.Int("model.schedules", 25, "how many random schedules TestModel tries")
	modelSeed      = flag.Uint64("model.seed", 0, "the one schedule to try; 0 for all")
)

func TestMain(m *testing.M) { ipctest.Main(m) }

// A model is what is true: how often each call was handled.
type model struct {
	mu      sync.Mutex
	handled map[uint64]int
}

// What a call asks its handler for.
const (
	doEcho = iota
	doFail
	doWait
	doSlow
	doPanic
	kinds
)

func (m *model) handle(ctx context.Context, request []byte) ([]byte, error) {
	id := binary.BigEndian.Uint64(request)
	m.mu.Lock()
	m.handled[id]++
	m.mu.Unlock()
	switch id % kinds {
	case doFail:
		return nil, &ours.Error{Code: ours.CodeFirstUser, Message: fmt.Sprint(id)}
	case doWait:
		<-ctx.Done()
		return nil, ctx.Err()
	case doSlow:
		select {
		case <-time.After(time.Duration(id%7) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case doPanic:
		panic(fmt.Sprint(id))
	}
	return request, nil
}

// TestModel makes calls, cancels and deadlines at random, over connections that are cut at random
// places and a server that is closed and stopped at random times. Each call ends once, with a
// result that can be true.
func TestModel(t *testing.T) {
	t.Parallel()
	schedules := uint64(*modelSchedules)
	if testing.Short() {
		schedules /= 5
	}
	for seed := uint64(1); seed <= schedules; seed++ {
		if *modelSeed != 0 && seed != *modelSeed {
			continue
		}
		if runSchedule(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func runSchedule(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	m := &model{handled: make(map[uint64]int)}
	address := ipctest.SocketPath(t)
	start := func() *ours.Server {
		s, err := ours.NewServer(address)
		if err != nil {
			t.Fatal(err)
		}
		s.Handle("do", m.handle)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	opts := []udsipc.WriterOption{udsipc.WithMaxBackoff(2 * time.Millisecond)}
	if seed%2 == 0 { // Else the faults are those of the server.
		cuts := rand.New(rand.NewPCG(seed, 100)) // The dialer is called by one goroutine.
		opts = append(opts, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", address)
			if err != nil {
				return nil, err
			}
			return &cutConn{Conn: conn, in: cuts.IntN(3000), out: cuts.IntN(3000)}, nil
		}))
	}
	c, err := ours.NewClient(address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := start()
	var callers sync.WaitGroup
	for caller := range uint64(4) {
		choices := rand.New(rand.NewPCG(seed, caller+2))
		callers.Go(func() {
			for n := range uint64(30) {
				m.call(t, c, choices, caller*1000+n*10+uint64(choices.IntN(10)))
			}
		})
	}
	done := make(chan struct{})
	go func() { // Ends with the calls, which all have a deadline.
		callers.Wait()
		close(done)
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
			ctx, cancel := context.WithCancel(t.Context())
			if random.IntN(2) == 0 {
				cancel() // Not gracefully.
			}
			_ = s.Stop(ctx)
			cancel()
			s = start()
		}
	}
	ipctest.Stop(t, c)
	ipctest.Stop(t, s)
}

// call makes one call and checks how it ends.
func (m *model) call(t *testing.T, c *ours.Client, choices *rand.Rand, id uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+choices.IntN(40))*time.Millisecond)
	defer cancel()
	if choices.IntN(4) == 0 {
		timer := time.AfterFunc(time.Duration(choices.IntN(3000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	request := append(binary.BigEndian.AppendUint64(nil, id), make([]byte, choices.IntN(600))...)
	idempotent := choices.IntN(3) == 0
	call := c.Call
	if idempotent {
		call = c.CallIdempotent
	}
	response, err := call(ctx, "do", request)
	m.mu.Lock()
	handled := m.handled[id]
	m.mu.Unlock()
	code := ours.CodeOf(err)
	possible := map[ours.Code]bool{ours.CodeCanceled: true, ours.CodeDeadlineExceeded: true, ours.CodeConnectionLost: true}
	if handled > 0 {
		possible[0] = id%kinds == doEcho || id%kinds == doSlow
		possible[ours.CodeFirstUser] = id%kinds == doFail
		possible[ours.CodePanic] = id%kinds == doPanic
	}
	switch {
	case !possible[code]:
		t.Errorf("call %d (handled %d times, idempotent %v): %v", id, handled, idempotent, err)
	case !idempotent && handled > 1:
		t.Errorf("call %d was handled %d times: %v", id, handled, err)
	case handled > 4:
		t.Errorf("call %d was handled %d times, once more than it is sent again: %v", id, handled, err)
	case code == 0 && string(response) != string(request):
		t.Errorf("call %d got the response of another: %x", id, response)
	case code == ours.CodeFirstUser && !strings.HasSuffix(err.Error(), fmt.Sprint(" ", id)):
		t.Errorf("call %d got the error of another: %v", id, err)
	}
}

// A cutConn breaks after so many bytes in either direction.
type cutConn struct {
	net.Conn
	mu      sync.Mutex
	in, out int
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in -= n; c.in < 0 {
		c.Conn.Close()
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	n := min(len(b), max(c.out, 0))
	c.out -= len(b)
	c.mu.Unlock()
	written, err := c.Conn.Write(b[:n])
	if n < len(b) {
		c.Conn.Close()
		return written, net.ErrClosed
	}
	return written, err
}

// TestCall_CutAtEveryByte_FailsOrCompletes of a request and of its response: the call is lost, or
// was not sent and is answered later.
func TestCall_CutAtEveryByte_FailsOrCompletes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const most = 60 // The frames have about 40 bytes.
	for _, response := range []bool{false, true} {
		for offset := range most {
			address := ipctest.SocketPath(t)
			m := &model{handled: make(map[uint64]int)}
			s := serve(t, address, func(s *ours.Server) { s.Handle("do", m.handle) })
			first := true
			c := dial(t, address, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, "unix", address)
				if err != nil || !first {
					return conn, err
				}
				first = false
				if response {
					return &cutConn{Conn: conn, in: offset, out: most * 10}, nil
				}
				return &cutConn{Conn: conn, in: most * 10, out: offset}, nil
			}))
			request := append(make([]byte, 8), "and a few more bytes"...)
			got, err := c.Call(t.Context(), "do", request)
			switch code := ours.CodeOf(err); {
			case code == 0 && string(got) != string(request), code != 0 && code != ours.CodeConnectionLost:
				t.Errorf("cut at %d, response %v: %q, %v", offset, response, got, err)
			case m.handled[0] > 1:
				t.Errorf("cut at %d, response %v: handled %d times", offset, response, m.handled[0])
			case !response && code == ours.CodeConnectionLost && offset < 20:
				t.Errorf("cut at %d: a request that was not sent whole counts as lost", offset)
			}
			ipctest.Stop(t, c)
			ipctest.Stop(t, s)
		}
	}
}

func TestCall_OverTLS_Works(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	server, client := ipctest.NewAuthority(t).Configs(t)
	serve(t, address, nil, udsipc.WithTLS(server))
	c := dial(t, address, udsipc.WithTLS(client))
	for n := range 100 {
		request := fmt.Append(nil, n)
		if response, err := c.Call(t.Context(), "echo", request); err != nil || string(response) != string(request) {
			t.Fatalf("%q, %v", response, err)
		}
	}
}

// TestHostileMessages sends a server messages of every kind, right and wrong, by chance: it must stay up, and answer a
// call on the same connection or end that.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	const connections = 2000
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.HandleStream("stream", func(ctx context.Context, stream *ours.Stream) error {
			for {
				if _, err := stream.Receive(); err != nil {
					return err
				}
			}
		})
	})
	random := rand.New(rand.NewPCG(1, 2))
	bodies := []string{
		"\x01\x00\x04echo123", "\x01\x00\x06stream\xff\xff\x7f", "\x01\x02ab", "\x01", "",
		"\x04echox", "\x01\xff\xff\xff\x7f", "\x01\x00\xc8x",
	}
	for n := range connections {
		conn, err := udsipc.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		var sent []byte
		for range 1 + random.IntN(6) {
			message := append([]byte{byte(random.IntN(11))}, bodies[random.IntN(len(bodies))]...)
			for range random.IntN(3) {
				message[random.IntN(len(message))] ^= 1 << random.IntN(8)
			}
			sent = append(sent, message...)
			_ = conn.WriteMessage(message) // It may have been sent away by now.
		}
		_ = conn.WriteMessage([]byte("\x01\x63\x00\x04echox"))
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for data, err := range conn.Messages() {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("connection %d, %q: no answer, %d calls under way", n, sent, s.ActiveCalls())
			}
			if err != nil || string(data) == "\x02\x63x" {
				break
			}
		}
		conn.Close()
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}

// FuzzParse reads the fields of every kind of message.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "\x01\x00\x04echo123", "\x01\xff\xff\xff\x7f\x01x", "\x04echox",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x01\x02\x03\x04", "\x02ab\x00\x01",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if what := ours.CheckParsers(b); what != "" {
			t.Errorf("% x: %s", b, what)
		}
	})
}
