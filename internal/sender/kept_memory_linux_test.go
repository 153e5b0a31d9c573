// SPDX-License-Identifier: Apache-2.0

package sender_test

// What an idle sender keeps of the messages that it has sent: nothing.

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_SlowReaderThenIdle_KeepsNoMemory: a message that took several writes is in the memory
// of the producer, which the Writer must not keep alive after the call.
func TestWriter_SlowReaderThenIdle_KeepsNoMemory(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	listener := ipctest.MustListen(t, path)
	w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock))
	ipctest.MustWriteMessage(t, w, "first") // After this the connection is fast, and messages are lent.
	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	ipctest.Until(t, "it is sent", func() bool { return w.Metrics().Sent == 1 })
	lent := weakMessage(t, w, peer.Read)
	ipctest.Until(t, "all is sent", func() bool { return w.Metrics().Sent == 2 })
	ipctest.Until(t, "the memory is free", func() bool { runtime.GC(); return lent.Value() == nil })
}

// weakMessage writes a message that only the Writer could keep. The peer reads after a while.
func weakMessage(t *testing.T, w *udsipc.Writer, read func([]byte) (int, error)) weak.Pointer[byte] {
	data := bytes.Repeat([]byte{7}, 8<<20)
	go func() { // Ends with the connection.
		time.Sleep(20 * time.Millisecond) // Longer than a write waits that a producer has interrupted.
		for b := make([]byte, 1<<16); ; {
			if _, err := read(b); err != nil {
				return
			}
		}
	}()
	if err := w.WriteMessage(data); err != nil {
		t.Error(err)
	}
	return weak.Make(&data[0])
}

// TestConn_Idle_KeepsNoMemory: a Conn keeps no chunk of messages that are written.
func TestConn_Idle_KeepsNoMemory(t *testing.T) {
	const conns, size, most = 20, 60_000, 16 << 10
	path := ipctest.SocketPath(t)
	listener := ipctest.MustListen(t, path)
	var near [conns]*udsipc.Conn
	var far [conns]net.Conn
	for i := range near {
		var err error
		if near[i], err = udsipc.Dial(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		defer near[i].Close()
		if far[i], err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		defer far[i].Close()
	}
	before := ipctest.HeapInUse()
	data, frame := make([]byte, size), make([]byte, len(ipctest.Frames(string(make([]byte, size)))))
	for i := range near {
		if err := near[i].WriteMessage(data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far[i], frame); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.GC() // The pool is empty: the next Conn gets memory of its own.
	}
	if kept := (int64(ipctest.HeapInUse()) - int64(before)) / conns; kept > most {
		t.Errorf("an idle connection keeps %d bytes, want %d at most", kept, most)
	}
	runtime.KeepAlive(near)
}
