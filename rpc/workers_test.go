// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// sendAtOnce sends the calls of a method with the numbers from 1 to n in one write, so that the server
// reads many before any has run.
func sendAtOnce(t *testing.T, address string, n int, method func(i int) string) net.Conn {
	t.Helper()
	var all []byte
	for i := 1; i <= n; i++ {
		all = append(all, rawCall(uint64(i), method(i), nil)...)
	}
	conn := rawDial(t, address)
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	return conn
}

// receiveKinds returns what ended each of n calls: the type of the message, by number.
func receiveKinds(t *testing.T, conn net.Conn, n int) map[uint64]byte {
	t.Helper()
	kinds, r := make(map[uint64]byte), bufio.NewReader(conn)
	for len(kinds) < n {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatal(err)
		}
		id, _ := binary.Uvarint(body[1:])
		if kinds[id] != 0 {
			t.Errorf("call %d ends twice", id)
		}
		kinds[id] = body[0]
	}
	return kinds
}

// TestServer_CallsAtOnce_AllBegin although each handler waits until all others run.
func TestServer_CallsAtOnce_AllBegin(t *testing.T) {
	t.Parallel()
	const n = 300
	var begun sync.WaitGroup
	begun.Add(n)
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("meet", func(context.Context, []byte) ([]byte, error) { begun.Done(); begun.Wait(); return nil, nil })
	})
	conn := sendAtOnce(t, address, n, func(int) string { return "meet" })
	for id, kind := range receiveKinds(t, conn, n) {
		if kind != 2 {
			t.Errorf("call %d ends with type %d", id, kind)
		}
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}

// TestServer_CallsAtOnce_AllEnd whatever the handlers before them do: end their goroutine, panic, or wait for
// the last one.
func TestServer_CallsAtOnce_AllEnd(t *testing.T) {
	t.Parallel()
	const n = 400
	last := make(chan struct{})
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("goexit", func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil })
		s.Handle("panic", func(context.Context, []byte) ([]byte, error) { panic("on purpose") })
		s.Handle("wait", func(context.Context, []byte) ([]byte, error) { <-last; return nil, nil })
		s.Handle("last", func(context.Context, []byte) ([]byte, error) { close(last); return nil, nil })
	}, udsipc.WithReaderErrorCallback(func(error, string) {}))
	method := func(i int) string {
		if i == n {
			return "last"
		}
		return []string{"goexit", "wait", "echo", "panic", "goexit", "goexit", "echo"}[i%7]
	}
	conn := sendAtOnce(t, address, n, method)
	for id, kind := range receiveKinds(t, conn, n) {
		name, want := method(int(id)), byte(2)
		if name == "goexit" || name == "panic" {
			want = 3
		}
		if kind != want {
			t.Errorf("call %d (%s) ends with type %d, want %d", id, name, kind, want)
		}
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}

// TestServer_CallsAtOnce_RunAfterEnd of their connection: each handler runs, and its context has ended.
func TestServer_CallsAtOnce_RunAfterEnd(t *testing.T) {
	t.Parallel()
	const n = 100
	var ran atomic.Int64
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) { ran.Add(1); <-ctx.Done(); return nil, nil })
	}, udsipc.WithReaderErrorCallback(func(error, string) {}))
	conn := sendAtOnce(t, address, n, func(int) string { return "wait" })
	ipctest.Until(t, "one runs", func() bool { return ran.Load() > 0 })
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, fmt.Sprintf("%d have run", n), func() bool { return ran.Load() == n && s.ActiveCalls() == 0 })
}

func TestCallQueue_KeepsOrder(t *testing.T) {
	for range 100 {
		ops := make([]int, 10_000)
		for i := range ops { // First the queue becomes long, then empty.
			if rand.IntN(4) <= 3*i/len(ops) {
				ops[i] = 1
			}
		}
		if differs, wakes := ours.CheckCallQueue(ops); differs != "" || wakes > 1 {
			t.Fatalf("%s, %d wake-ups although none has come", differs, wakes)
		}
	}
}
