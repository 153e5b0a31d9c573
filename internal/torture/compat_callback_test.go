// SPDX-License-Identifier: Apache-2.0

package torture_test

// What an ErrorCallback gets: the rows of the last table of docs/migrating/uds-ipc.md.

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// told is what an ErrorCallback got.
type told struct {
	err error
	op  string
}

// TestCompat_CallbackStrings is the table of the second arguments of a Reader's ErrorCallback.
func TestCompat_CallbackStrings(t *testing.T) {
	for name, c := range map[string]struct { // By the predecessor's string.
		bytes []byte
		op    string
		words string
		err   error
	}{
		"failed to read the length prefix": {slices.Repeat([]byte{0xff}, 11), udsipc.OpRead,
			"failed to read a message", udsipc.ErrInvalidLengthPrefix},
		"failed to read the complete message": {[]byte{10, 1}, udsipc.OpRead,
			"failed to read a message", udsipc.ErrConnectionClosed},
		"message too large": {append(binary.AppendUvarint(nil, 101), make([]byte, 101)...), udsipc.OpRead,
			"failed to read a message", udsipc.ErrMessageTooLarge},
		"handler failed to process a message": {ipctest.Frames("bad"), udsipc.OpHandle,
			"failed to handle a message", udsipc.ErrHandlerFailed},
	} {
		t.Run(name, func(t *testing.T) {
			path, events := ipctest.SocketPath(t), make(chan told, 10)
			ipctest.StartReader(t, func([]byte) error { return errors.New("no") }, path, udsipc.WithMaxMessageSize(100),
				udsipc.WithReaderErrorCallback(func(err error, op string) { events <- told{err, op} }))
			conn := ipctest.MustDial(t, path)
			ipctest.MustWrite(t, conn, c.bytes)
			conn.Close()
			checkTold(t, ipctest.Await(t, "the callback", events), c.op, c.words, c.err)
		})
	}
}

// TestCompat_WriterCallbackStrings is the same for a Writer.
func TestCompat_WriterCallbackStrings(t *testing.T) {
	first := map[error]chan told{ // The first that a callback got of each.
		udsipc.ErrNoConsumer: make(chan told, 1), udsipc.ErrBackpressure: make(chan told, 1),
		udsipc.ErrConnectionClosed: make(chan told, 1),
	}
	path := ipctest.SocketPath(t)
	w, err := udsipc.NewWriter(path, udsipc.WithWriteTimeout(time.Millisecond), udsipc.WithCloseTimeout(0),
		udsipc.WithWriterErrorCallback(func(err error, op string) {
			for target, events := range first {
				if errors.Is(err, target) {
					select {
					case events <- told{err, op}:
					default:
					}
				}
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(w.WriteMessage([]byte("small")), w.WriteMessage(make([]byte, 8<<20))); err != nil {
		t.Fatal(err)
	}
	expect := func(op, words string, target error) {
		checkTold(t, ipctest.Await(t, words, first[target]), op, words, target)
	}
	expect(udsipc.OpDial, "failed to connect", udsipc.ErrNoConsumer)

	listener := ipctest.MustListen(t, path)
	accepted := make(chan net.Conn, 1)
	go func() { // Ends with the connection, or with the listener.
		if conn, err := listener.Accept(); err == nil {
			accepted <- conn
		}
	}()
	conn := ipctest.Await(t, "a connection", accepted)
	expect(udsipc.OpWrite, "failed to write", udsipc.ErrBackpressure)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	conn.Close() // The rest of the small message is possibly lost; the other one is sent again.
	expect(udsipc.OpWrite, "failed to write", udsipc.ErrConnectionClosed)
}

// checkTold checks what a callback got.
func checkTold(t *testing.T, got told, op, words string, target error) {
	t.Helper()
	var e *udsipc.OpError
	if !errors.As(got.err, &e) || e.Op != op || got.op != words || !errors.Is(got.err, target) {
		t.Errorf("the callback got %q, %v; want %q, Op %q and %v", got.op, got.err, words, op, target)
	}
}
