// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// Listen returns a Listener that is closed at the end of the test.
func Listen(tb testing.TB, address string, opts ...udsipc.ReaderOption) *udsipc.Listener {
	tb.Helper()
	var l *udsipc.Listener
	whileInUse(tb, func() (err error) { l, err = udsipc.Listen(address, opts...); return err })
	tb.Cleanup(func() { l.Close() })
	return l
}

// Accept returns the next connection. It is closed at the end of the test.
func Accept(t *testing.T, l *udsipc.Listener) *udsipc.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Converse returns the two ends of a connection. They are closed at the end of the test.
func Converse(tb testing.TB, l *udsipc.Listener, address string,
	opts ...udsipc.WriterOption) (dialled, accepted *udsipc.Conn) {
	tb.Helper()
	patient := []udsipc.WriterOption{
		udsipc.WithDialTimeout(patience), udsipc.WithHandshakeTimeout(patience),
	}
	dialled, err := udsipc.Dial(tb.Context(), address, append(patient, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { dialled.Close() })
	if accepted, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { accepted.Close() })
	return dialled, accepted
}

// ListenOn is Listen for a Route.
func ListenOn(t *testing.T, on *Route, opts ...udsipc.ReaderOption) *udsipc.Listener {
	t.Helper()
	return Listen(t, on.Address, on.ReaderOptions(t, opts...)...)
}

// StartLink returns a started Link that is stopped at the end of the test.
func StartLink(tb testing.TB, address string, handle func([]byte), opts ...udsipc.WriterOption) *udsipc.Link {
	tb.Helper()
	l, err := udsipc.NewLink(address, handle,
		append([]udsipc.WriterOption{udsipc.WithMaxBackoff(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = l.Stop(ctx) // Remaining messages are the test's concern.
	})
	return l
}
