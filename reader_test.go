// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestReader_EverySize_ArrivesOnceInOrder(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 2, 127, 128, 129, 511, 512, 513, 4 << 10, 16383, 16384, 64<<10 - 4, 64<<10 - 3, 64 << 10,
		64<<10 + 1, 256<<10 - 4, 256<<10 - 3, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 3 << 20, 10 << 20}
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		got := make(chan int, 1000)
		r := on.StartReader(t, func(data []byte) error {
			for i, c := range data {
				if c != byte(len(data)+i) {
					t.Errorf("byte %d of %d is %d, want %d", i, len(data), c, byte(len(data)+i))
					break
				}
			}
			got <- len(data)
			return nil
		})
		w := on.StartWriter(t)
		for _, bufferSize := range []string{"forward", "backward"} {
			for i := range sizes {
				size := sizes[i]
				if bufferSize == "backward" {
					size = sizes[len(sizes)-1-i]
				}
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(size + i)
				}
				if err := w.WriteMessageContext(t.Context(), data); err != nil {
					t.Fatal(err)
				}
				clear(data) // The caller may reuse it at once.
			}
			for i := range sizes {
				want := sizes[i]
				if bufferSize == "backward" {
					want = sizes[len(sizes)-1-i]
				}
				if size := ipctest.Await(t, "a message", got); size != want {
					t.Fatalf("message %d has %d bytes, want %d", i, size, want)
				}
			}
		}
		if m := r.Metrics(); m.Received != uint64(2*len(sizes)) || m.HandlerErrors != 0 || m.Errors != 0 {
			t.Errorf("reader: %+v", m)
		}
	})
}

// TestReader_IdleClose_LosesNothing has a writer send at the very moment at which its connection is idle for
// too long.
func TestReader_IdleClose_LosesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const idle, messages = time.Millisecond, 200
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		s := ipctest.NewSequence(t, messages)
		r := on.StartReader(t, s.Handle, udsipc.WithInactivityTimeout(idle))
		w := on.StartWriter(t, udsipc.WithMaxBackoff(time.Millisecond))
		ticker := time.NewTicker(idle)
		defer ticker.Stop()
		for n := range uint64(messages) {
			<-ticker.C
			if err := w.WriteMessage(ipctest.Number(n, 8)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.Await(t, "all messages", s.Done)
		if r.Metrics().IdleClosed == 0 {
			t.Error("no connection was idle, so nothing was tested")
		}
		if m := w.Metrics(); m.PossiblyLost != 0 {
			t.Errorf("writer: %+v", m)
		}
	})
}

// TestReader_IdleCloseAnytime_LosesNothing writes so long after the last message that the connection is about to be
// idle for too long, is, or has just been, with everything that may lie between these.
func TestReader_IdleCloseAnytime_LosesNothing(t *testing.T) {
	const idle = 10 * time.Second
	ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
		var handled uint64
		r := on.StartReader(t, func([]byte) error { handled++; return nil }, udsipc.WithInactivityTimeout(idle))
		w := on.StartWriter(t)
		var written uint64
		for _, after := range []time.Duration{
			0, 1, -1, time.Millisecond, -time.Millisecond, time.Second, -time.Second, time.Hour,
		} {
			for range 3 {
				ipctest.MustWriteMessage(t, w, "message")
				written++
				time.Sleep(idle + after)
			}
		}
		ipctest.Stop(t, w)
		if r.Metrics().IdleClosed == 0 {
			t.Error("no connection was idle, so nothing was tested")
		}
		ipctest.Stop(t, r)
		ipctest.CheckGracefulStop(t, w, handled)
		if m := w.Metrics(); m.PossiblyLost != 0 || handled != written {
			t.Errorf("%d messages handled, %d written: %+v", handled, written, m)
		}
	})
}

func TestReader_HandlerFails_CostsOneMessage(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		errs := ipctest.Collect()
		errBad := errors.New("bad message")
		good := make(chan string, 10)
		r := on.StartReader(t, func(data []byte) error {
			switch string(data) {
			case "error":
				return errBad
			case "panic":
				panic("at the handler")
			case "nil":
				var p *udsipc.Peer
				_ = p.ID
			}
			good <- string(data)
			return nil
		}, udsipc.WithReaderErrorCallback(errs.Callback))
		conn := on.Dial(t)
		ipctest.MustWrite(t, conn, ipctest.Frames("a", "error", "b", "panic", "c", "nil", "d"))
		for _, want := range []string{"a", "b", "c", "d"} {
			if got := ipctest.Await(t, "message "+want, good); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		errs.Want(t, errBad)
		if err := errs.Want(t, udsipc.ErrHandlerFailed); !strings.Contains(err.Error(), "reader_test.go") {
			t.Errorf("the report of a panic has no stack: %v", err)
		}
		if m := r.Metrics(); m.Received != 7 || m.HandlerErrors != 1 || m.Panics != 2 || m.Connections != 1 {
			t.Errorf("%+v, want 7 received, 1 error, 2 panics, 1 connection", m)
		}
		if received, connections, failed := r.GetMetrics(); received != 7 || connections != 1 || failed != 3 {
			t.Errorf("GetMetrics: %d, %d, %d, want 7, 1, 3", received, connections, failed)
		}
	})
}

func TestReader_HandlerAppends_TouchesNoNeighbour(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		got := make(chan string, 3)
		on.StartReader(t, func(data []byte) error {
			got <- string(data)
			if cap(data) != len(data) {
				t.Errorf("capacity %d of %d bytes shows the neighbour", cap(data), len(data))
			}
			_ = append(data, "overwritten"...)
			return nil
		})
		ipctest.MustWrite(t, on.Dial(t), ipctest.Frames("first", "second", "third"))
		for _, want := range []string{"first", "second", "third"} {
			if data := ipctest.Await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
	})
}

func TestDelivery_Fields_DescribeOrigin(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		got := make(chan udsipc.Delivery, 10)
		on.StartDeliveryReader(t, func(ctx context.Context, d *udsipc.Delivery) error {
			if ctx.Err() != nil {
				t.Error(ctx.Err())
			}
			copied := *d
			copied.Data = bytes.Clone(d.Data)
			got <- copied
			return nil
		})
		for id := uint64(1); id <= 2; id++ {
			ipctest.MustWrite(t, on.Dial(t), ipctest.Frames("x", "y"))
			for seq := uint64(1); seq <= 2; seq++ {
				d := ipctest.Await(t, "a delivery", got)
				if d.Peer.ID != id || d.Seq != seq || d.Writer != (udsipc.WriterID{}) || d.Redelivered || d.Peer.Addr == nil {
					t.Errorf("got %+v, want connection %d, message %d", d, id, seq)
				}
			}
		}
	})
}

// TestReader_OversizedMessage_HandlesTheRest: the connection ends, but nothing that was sent behind the message is
// lost with it.
func TestReader_OversizedMessage_HandlesTheRest(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		errs := ipctest.Collect()
		got := make(chan string, 10)
		r := on.StartReader(t, func(data []byte) error { got <- string(data); return nil },
			udsipc.WithMaxMessageSize(5), udsipc.WithReaderErrorCallback(errs.Callback))
		conn := on.Dial(t)
		ipctest.MustWrite(t, conn, ipctest.Frames("small", "too large", "next", strings.Repeat("x", 100_000), "last"))
		for _, want := range []string{"small", "next", "last"} {
			if data := ipctest.Await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
		err := errs.Want(t, udsipc.ErrMessageTooLarge)
		if !strings.Contains(err.Error(), "9 bytes") || !strings.Contains(err.Error(), "limit is 5") {
			t.Errorf("the report names neither size nor limit: %v", err)
		}
		ipctest.ReadToEnd(t, conn)
		if m := r.Metrics(); m.TooLarge != 2 || m.Received != 3 {
			t.Errorf("%+v, want 2 too large, 3 received", m)
		}
	})
}

func TestReader_InvalidLengths_CloseConnection(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  error
	}{
		"overflow":          {bytes.Repeat([]byte{0xff}, 11), udsipc.ErrInvalidLengthPrefix},
		"opening":           {append(bytes.Repeat([]byte{0x80}, 20), 1), udsipc.ErrInvalidLengthPrefix},
		"2^64-1":            {binary.AppendUvarint(nil, 1<<64-1), udsipc.ErrMessageTooLarge},
		"2^63":              {binary.AppendUvarint(nil, 1<<63), udsipc.ErrMessageTooLarge},
		"just above the 4G": {binary.AppendUvarint(nil, 1<<32+1), udsipc.ErrMessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			errs := ipctest.Collect()
			// No limit at all must not mean that any length is believed.
			ipctest.StartReader(t, func([]byte) error { t.Error("a message"); return nil }, path,
				udsipc.WithMaxMessageSize(1<<64-1), udsipc.WithReaderErrorCallback(errs.Callback))
			conn := ipctest.MustDial(t, path)
			ipctest.MustWrite(t, conn, test.bytes)
			errs.Want(t, test.want)
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection does not end: %v", err)
			}
		})
	}
}

// TestReader_AnnouncedBytes_AllocateNothing: 200 connections announce 10 MiB each, send 1 KiB of it and stall.
func TestReader_AnnouncedBytes_AllocateNothing(t *testing.T) {
	const n = 200
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, func([]byte) error { return nil }, path)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		ipctest.MustWrite(t, ipctest.MustDial(t, path), append(binary.AppendUvarint(nil, 10<<20), make([]byte, 1<<10)...))
	}
	ipctest.Until(t, "all is read", func() bool { return r.Metrics().ReceivedBytes == n*(4+1<<10) })
	runtime.GC()
	runtime.GC() // What is only pooled goes with the second.
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > n*16<<10 {
		t.Errorf("%d stalled connections cost %d bytes, %d each", n, grown, grown/n)
	}
}

func TestReader_MaxConnections_Rejects(t *testing.T) {
	path := ipctest.SocketPath(t)
	errs := ipctest.Collect()
	got := make(chan string, 10)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path,
		udsipc.WithMaxConnections(2), udsipc.WithReaderErrorCallback(errs.Callback))
	first, second := ipctest.MustDial(t, path), ipctest.MustDial(t, path)
	ipctest.MustWrite(t, first, ipctest.Frames("1"))
	ipctest.MustWrite(t, second, ipctest.Frames("2"))
	ipctest.Await(t, "message", got)
	ipctest.Await(t, "message", got)

	third := ipctest.MustDial(t, path)
	if _, err := third.Write(ipctest.Frames("3")); err == nil {
		if data := ipctest.Await(t, "the message of the refused connection", got); data != "3" {
			t.Errorf("got %q", data)
		}
	}
	errs.Want(t, udsipc.ErrTooManyConnections)
	if _, err := io.Copy(io.Discard, third); err != nil {
		t.Errorf("the refused connection: %v", err)
	}
	first.Close()
	ipctest.Until(t, "there is room", func() bool { return r.Metrics().Connections == 1 })
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("4"))
	if data := ipctest.Await(t, "a message", got); data != "4" {
		t.Errorf("got %q", data)
	}
	if m := r.Metrics(); m.Refused != 1 || m.Accepted != 4 {
		t.Errorf("%+v, want 1 refused, 4 accepted", m)
	}
}

func TestReader_AcceptErrors_AreRetried(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("unix", ipctest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &ipctest.FailingListener{Listener: inner, Errs: make(chan error, 100)}
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EMFILE, syscall.ENOBUFS, syscall.EPERM} {
		l.Errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
	}
	errs := ipctest.Collect()
	got := make(chan string, 1)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, "named.sock",
		udsipc.WithListener(l), udsipc.WithMaxAcceptErrors(1), udsipc.WithReaderErrorCallback(errs.Callback))
	ipctest.MustWrite(t, ipctest.MustDial(t, inner.Addr().String()), ipctest.Frames("after all"))
	ipctest.Await(t, "the message", got)
	errs.Want(t, syscall.EMFILE)
	if m := r.Metrics(); m.AcceptErrors != 5 {
		t.Errorf("%d accept errors, want 5", m.AcceptErrors)
	}
}

func TestReader_TooManyAcceptErrors_Ends(t *testing.T) {
	inner, err := net.Listen("unix", ipctest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &ipctest.FailingListener{Listener: inner, Errs: make(chan error, 100)}
	got := make(chan struct{}, 1)
	errs := ipctest.Collect()
	r := ipctest.StartReader(t, func([]byte) error { got <- struct{}{}; return nil }, "named.sock",
		udsipc.WithListener(l), udsipc.WithMaxAcceptErrors(2), udsipc.WithReaderErrorCallback(errs.Callback))
	conn := ipctest.MustDial(t, inner.Addr().String())
	ipctest.MustWrite(t, conn, ipctest.Frames("x"))
	ipctest.Await(t, "the message", got)
	for range 10 {
		l.Errs <- syscall.EPERM
	}
	ipctest.MustDial(t, inner.Addr().String()) // Wakes Accept.
	ipctest.Await(t, "Done", r.Done())
	if err := r.Err(); !errors.Is(err, syscall.EPERM) || err != r.Err() {
		t.Errorf("Err is %v and %v, want EPERM, the same one", err, r.Err())
	}
	if err := errs.Want(t, syscall.EPERM); err == nil {
		t.Error("not reported")
	}
}

func TestReader_InactivityTimeout_IsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipctest.ListenInMemory()
		r := ipctest.StartReader(t, func([]byte) error { return nil }, "x", udsipc.WithListener(l),
			udsipc.WithInactivityTimeout(7*time.Second))
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(6 * time.Second)
		ipctest.MustWrite(t, conn, ipctest.Frames("still here"))
		began := time.Now()
		if n, err := conn.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("read %d bytes, %v; want the goodbye", n, err)
		}
		if got := time.Since(began); got != 7*time.Second {
			t.Errorf("said goodbye after %v, want 7s", got)
		}
		ipctest.MustWrite(t, conn, ipctest.Frames("one more"))
		if report, err := io.ReadAll(conn); len(report) < 2 || err != nil {
			t.Errorf("read % x, %v; want the report and EOF", report, err)
		}
		if got := time.Since(began); got != 12*time.Second { // Five seconds behind the last byte.
			t.Errorf("cut off after %v, want 12s", got)
		}
		if m := r.Metrics(); m.IdleClosed != 1 || m.Received != 2 || m.Errors != 0 {
			t.Errorf("%+v, want 1 idle, 2 received, no error", m)
		}
	})
}

func TestReader_InactivityTimeout_CountsFromLastWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipctest.ListenInMemory()
		r := ipctest.StartReader(t, func([]byte) error { time.Sleep(time.Minute); return nil }, "x",
			udsipc.WithListener(l), udsipc.WithInactivityTimeout(5*time.Second))
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 { // The handler takes longer than the timeout each time.
			ipctest.MustWrite(t, conn, ipctest.Frames("x"))
		}
		time.Sleep(4*time.Minute + time.Second)
		if m := r.Metrics(); m.Received != 3 || m.IdleClosed != 1 {
			t.Errorf("%+v, want 3 received, then idle", m)
		}
	})
}

// TestErrorsOfOthers: a callback of the program fails with an OpError of something else, a Writer for example. What is
// reported has its own operation and address, and that error within.
func TestErrorsOfOthers(t *testing.T) {
	t.Parallel()
	foreign := &udsipc.OpError{Op: udsipc.OpFlush, Addr: "elsewhere", Err: errors.New("not flushed")}
	callback := func(err error, context string, op string, reports chan<- string) {
		own, ok := err.(*udsipc.OpError)
		if !ok || own.Op != op || own.Addr == foreign.Addr || context == "" || !errors.Is(err, foreign) {
			t.Errorf("reported %T %v (%q), want the operation %q", err, err, context, op)
		}
		select {
		case reports <- op:
		default:
		}
	}
	refuse := func(udsipc.Peer) error { return fmt.Errorf("ask somebody else: %w", foreign) }
	fail := func([]byte) error { return fmt.Errorf("forward: %w", foreign) }
	for name, test := range map[string]struct {
		handler  udsipc.MessageHandler
		readerOp string
		writerOp string
		reader   []udsipc.ReaderOption
		writer   []udsipc.WriterOption
	}{
		"a handler": {fail, udsipc.OpHandle, "", nil, nil},
		"a dead letter": {fail, udsipc.OpHandle, "",
			[]udsipc.ReaderOption{udsipc.WithMaxRedeliveries(0)},
			[]udsipc.WriterOption{udsipc.WithAcknowledgements()}},
		"an authorizer": {ipctest.Ignore, udsipc.OpAuthorize, "",
			[]udsipc.ReaderOption{udsipc.WithAuthorizer(refuse)}, nil},
		"a writer's authorizer": {ipctest.Ignore, "", udsipc.OpAuthorize, nil,
			[]udsipc.WriterOption{udsipc.WithAuthorizer(refuse)}},
		"a dialer": {ipctest.Ignore, "", udsipc.OpDial, nil,
			[]udsipc.WriterOption{udsipc.WithDialer(func(context.Context) (net.Conn, error) {
				return nil, fmt.Errorf("through a proxy: %w", foreign)
			})}},
	} {
		t.Run(name, func(t *testing.T) {
			path, reports := ipctest.SocketPath(t), make(chan string, 10)
			if test.readerOp != "" {
				test.reader = append(test.reader, udsipc.WithReaderErrorCallback(
					func(err error, context string) { callback(err, context, test.readerOp, reports) }))
			}
			if test.writerOp != "" {
				test.writer = append(test.writer, udsipc.WithWriterErrorCallback(
					func(err error, context string) { callback(err, context, test.writerOp, reports) }))
			}
			ipctest.StartReader(t, test.handler, path, test.reader...)
			w, err := udsipc.NewWriter(path, test.writer...)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			ipctest.MustWriteMessage(t, w, "hello")
			ipctest.Await(t, "a report", reports)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = w.Stop(ended) // The message may never be delivered.
		})
	}
}
