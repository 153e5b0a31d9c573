// SPDX-License-Identifier: Apache-2.0

package transport_test

// A receiving connection of which a test plays the peer.

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// A testIn is an In of which a test plays the peer.
type testIn struct {
	*transport.In
	*testing.T
	peer   net.Conn
	memory *testMemory
}

// inOf must be called in a bubble. What the limits do not say is large.
func inOf(t *testing.T, l transport.Limits) testIn {
	near, far := net.Pipe()
	if l.MaxMessageSize == 0 {
		l.MaxMessageSize = 1 << 30
	}
	if l.ReadSize == 0 {
		l.ReadSize = 64 << 10
	}
	memory := &testMemory{Left: 1 << 30}
	t.Cleanup(func() { near.Close(); far.Close() })
	return testIn{transport.NewIn(near, l, memory), t, far, memory}
}

// comes has the connection read this piece.
func (in testIn) comes(piece string) {
	in.Helper()
	in.sends(piece)
	if err := in.Fill(); err != nil {
		in.Fatalf("%.20q: %v", piece, err)
	}
}

// sends writes a piece in the background.
func (in testIn) sends(piece string) {
	go func() { _, _ = in.peer.Write([]byte(piece)) }() // Ends with the connection.
}

// gives wants these messages to be next, and then none.
func (in testIn) gives(want ...string) {
	in.Helper()
	for _, message := range want {
		data, ok, err := in.Next()
		if !ok || err != nil || string(data) != message || cap(data) != len(data) {
			in.Errorf("got %.40q of %d, %v, %v; want %.40q", data, cap(data), ok, err, message)
		}
	}
	if data, ok, err := in.Next(); ok || err != nil || data != nil {
		in.Errorf("got %.40q, %v, %v; want nothing", data, ok, err)
	}
}

// looks wants the buffer to look like this.
func (in testIn) looks(size, from, to int, loan int64, need int) {
	in.Helper()
	want := transport.Buffered{Size: size, From: from, To: to, Loan: loan, Need: need}
	if got := in.Buffered(); got != want {
		in.Errorf("the buffer is %+v, want %+v", got, want)
	}
}

// heard collects what the connection says to its peer, until that is asked for.
func (in testIn) heard() func() string {
	said := make(chan string, 1)
	go func() { // Ends with the connection.
		b, _ := io.ReadAll(in.peer)
		said <- string(b)
	}()
	return func() string {
		in.Helper()
		in.Close()
		return <-said
	}
}

// wantEnd wants a Fill to end with an error, after so long.
func (in testIn) wantEnd(after time.Duration, want error) {
	in.Helper()
	began := time.Now()
	err := in.Fill()
	if took := time.Since(began); !errors.Is(err, want) || took != after {
		in.Errorf("ended with %v after %v, want %v after %v", err, took, want, after)
	}
}

func (in testIn) wantTimeout(after time.Duration) {
	in.Helper()
	began := time.Now()
	if err := in.Fill(); !isTimeoutError(err) || time.Since(began) != after {
		in.Errorf("ended with %v after %v, want a timeout after %v", err, time.Since(began), after)
	}
}
