// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestSession_HandledMessages_AreAcknowledged: with acknowledgements a message is sent when it is handled.
func TestSession_HandledMessages_AreAcknowledged(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n = 20_000
		s := ipctest.NewSequence(t, n)
		r := on.StartReader(t, s.Handle)
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, int(i%3000))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		ipctest.Await(t, "the last message", s.Done)
		m := w.Metrics()
		if m.Sent != n || m.Acknowledged != n || m.Unacknowledged != 0 || m.Queued != 0 ||
			m.Retransmitted != 0 || m.AckTime.Count != n {
			t.Errorf("writer: %+v, want %d acknowledged", m, n)
		}
		if m.AckTime.P50 > m.AckTime.P99 || m.AckTime.P99 > m.AckTime.Max || m.AckTime.P50 <= 0 {
			t.Errorf("times to acknowledgement: %+v", m.AckTime)
		}
		if m := r.Metrics(); m.Received != n || m.Acknowledged != n || m.WriterStates != 1 ||
			m.Sessions != 1 || m.Errors != 0 {
			t.Errorf("reader: %+v, want %d acknowledged", m, n)
		}
	})
}

// TestReader_PlainAndSession_ShareOneReader: plain writers go on beside acknowledged ones.
func TestReader_PlainAndSession_ShareOneReader(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n = 100
		var mu sync.Mutex
		got := map[string]int{}
		writers := map[udsipc.WriterID]bool{}
		r := on.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			got[string(d.Data)]++
			writers[d.Writer] = true
			return nil
		})
		ends := []*udsipc.Writer{
			on.StartWriter(t), on.StartWriter(t, udsipc.WithAcknowledgements()),
			on.StartWriter(t, udsipc.WithAcknowledgements()),
		}
		for i := range n {
			for j, w := range ends {
				ipctest.MustWriteMessage(t, w, fmt.Sprint(j, i))
			}
		}
		for _, w := range ends {
			ipctest.Stop(t, w)
		}
		ipctest.Until(t, "all is handled", func() bool { return r.Metrics().Received == 3*n })
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 3*n || len(writers) != 3 || !writers[udsipc.WriterID{}] {
			t.Errorf("%d different messages of %d writers, want %d of 3, one without a name", len(got), len(writers), 3*n)
		}
	})
}

// TestSession_PlainReader_ReportsAcksUnsupported: a reader that knows only frames fails at the eleventh byte, and the
// Writer says so, keeps its messages, and delivers them when a reader comes that can answer.
func TestSession_PlainReader_ReportsAcksUnsupported(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 11)
			_, err = io.ReadFull(conn, head)
			if _, size := binary.Uvarint(head); err == nil && size >= 0 {
				err = fmt.Errorf("% x can be a length", head)
			}
			refused <- err
			conn.Close()
		}
	}()
	errs := ipctest.Collect()
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(),
		udsipc.WithWriterErrorCallback(errs.Callback), udsipc.WithMaxBackoff(20*time.Millisecond))
	ipctest.MustWriteMessage(t, w, "kept")
	for range 3 { // It goes on trying.
		if err := ipctest.Await(t, "a connection", refused); err != nil {
			t.Error(err)
		}
		errs.Want(t, udsipc.ErrAcksUnsupported)
	}
	if m := w.Metrics(); m.Queued != 1 || m.Sent != 0 || m.Connected {
		t.Errorf("%+v, want the message queued", m)
	}
	l.Close()
	got := make(chan string, 1)
	ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path)
	if data := ipctest.Await(t, "the message", got); data != "kept" {
		t.Errorf("got %q", data)
	}
}

// readerThatSays answers the hellos of a Writer with these bytes, one after the other, and then with the
// last ones. It returns the Writer.
func readerThatSays(t *testing.T, errs *ipctest.Reported, answers ...[]byte) *udsipc.Writer {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1024)
			if n, _ := conn.Read(b); n > 0 {
				_, size, err := wire.ParseHello(b[:n])
				if err != nil || size != n {
					t.Errorf("% x is not a hello alone: %d bytes are, %v", b[:n], size, err)
				}
			}
			conn.Write(answers[min(i, len(answers)-1)])
			go func() {
				io.Copy(io.Discard, conn)
				conn.Close()
			}()
		}
	}()
	return ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements(),
		udsipc.WithWriterErrorCallback(errs.Callback), udsipc.WithMaxBackoff(20*time.Millisecond))
}

func TestSession_OtherVersion_ReportsAcksUnsupported(t *testing.T) {
	t.Run("of the reader", func(t *testing.T) {
		errs := ipctest.Collect()
		w := readerThatSays(t, errs, []byte{5, 2, 0, 0, 1, 0})
		ipctest.MustWriteMessage(t, w, "kept")
		err := errs.Want(t, udsipc.ErrAcksUnsupported)
		if !strings.Contains(err.Error(), "the reader speaks 2, this writer 1") {
			t.Error(err)
		}
		if m := w.Metrics(); m.Queued != 1 {
			t.Errorf("%+v, want the message queued", m)
		}
	})
	t.Run("of the writer", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		errs := ipctest.Collect()
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithReaderErrorCallback(errs.Callback))
		conn := ipctest.MustDial(t, path)
		hello := wire.Hello{Epoch: 1, FirstSeq: 1}.Append(nil)
		hello[13] = 2 // The version, behind the opening and the length.
		ipctest.MustWrite(t, conn, append(hello, ipctest.Frames("not handled")...))
		errs.Want(t, udsipc.ErrInvalidSession)
		answer, _ := io.ReadAll(conn)
		if want := []byte{5, 1, 1, 0, 0, 0}; !slices.Equal(answer, want) {
			t.Errorf("answered % x, want % x", answer, want)
		}
		if m := r.Metrics(); m.Received != 0 || m.WriterStates != 0 {
			t.Errorf("%+v, want nothing", m)
		}
	})
}

// TestSession_InvalidWelcomeOrAck_KeepsMessages: a reader that says it has handled what was never
// sent gets no message of the queue for it.
func TestSession_InvalidWelcomeOrAck_KeepsMessages(t *testing.T) {
	welcome := wire.Welcome{Limit: 1000}.Append(nil)
	for name, answer := range map[string][]byte{
		"a welcome that has handled too much":     wire.Welcome{Handled: 1, Limit: 1000}.Append(nil),
		"a welcome without a limit":               wire.Welcome{}.Append(nil),
		"a welcome that is too long":              append([]byte{0x81, 0x01}, make([]byte, 129)...),
		"a welcome with bytes too many":           {6, 1, 0, 0, 1, 0, 0},
		"a welcome that ends too early":           {4, 1, 0, 0, 1},
		"an acknowledgement of what was not sent": append(slices.Clone(welcome), 3),
		"an acknowledgement near 2^64": append(slices.Clone(welcome), 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"an acknowledgement over 64 bits": append(slices.Clone(welcome), 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 2),
		"an acknowledgement twice":            append(slices.Clone(welcome), 1, 1),
		"an acknowledgement backwards":        append(slices.Clone(welcome), 2, 1),
		"an acknowledgement in a longer form": append(slices.Clone(welcome), 0x81, 0x00),
	} {
		t.Run(name, func(t *testing.T) {
			errs := ipctest.Collect()
			w := readerThatSays(t, errs, answer)
			ipctest.MustWriteMessage(t, w, "one")
			ipctest.MustWriteMessage(t, w, "two")
			errs.Want(t, udsipc.ErrInvalidSession)
			m := w.Metrics()
			ipctest.CheckInvariant(t, m)
			if twice := strings.Contains(name, "twice"); m.Queued != 2 && !(twice && m.Queued == 1) {
				t.Errorf("%+v, want both messages queued", m)
			}
			errs.None(t, udsipc.ErrAcksUnsupported)
		})
	}
}

func TestSession_InvalidHello_IsRejected(t *testing.T) {
	valid := wire.Hello{Epoch: 1, FirstSeq: 1}.Append(nil)
	with := func(at int, b ...byte) []byte {
		return append(append(slices.Clone(valid[:at]), b...), valid[at+len(b):]...)
	}
	for name, bytes := range map[string][]byte{
		"attempt 0":       wire.Hello{FirstSeq: 1}.Append(nil),
		"message 0":       wire.Hello{Epoch: 1}.Append(nil),
		"sent before":     wire.Hello{Epoch: 1, FirstSeq: 10, LastSentSeq: 8}.Append(nil),
		"number of 2^63":  wire.Hello{Epoch: 1 << 63, FirstSeq: 1}.Append(nil),
		"no body":         with(12, 0),
		"too long":        append(slices.Clone(valid[:12]), 0x81, 0x01),
		"too short":       append(append(slices.Clone(valid[:12]), valid[12]-1), valid[13:len(valid)-1]...),
		"bytes too many":  append(append(append(slices.Clone(valid[:12]), valid[12]+1), valid[13:]...), 0),
		"another opening": with(11, 0xff),
		"length overflows": append(slices.Clone(valid[:12]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			errs := ipctest.Collect()
			r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithReaderErrorCallback(errs.Callback))
			conn := ipctest.MustDial(t, path)
			ipctest.MustWrite(t, conn, append(slices.Clone(bytes), ipctest.Frames("not handled")...))
			target := udsipc.ErrInvalidSession
			if name == "another opening" {
				target = udsipc.ErrInvalidLengthPrefix
			}
			errs.Want(t, target)
			io.Copy(io.Discard, conn)
			if m := r.Metrics(); m.Received != 0 || m.WriterStates != 0 || m.Malformed != 1 {
				t.Errorf("%+v, want nothing but one malformed", m)
			}
		})
	}
}

// TestSession_HigherEpoch_FencesOwner: a second connection of a writer ends the first, waits for
// the handler that runs, and gets the true number. What lies in the first one's buffer is not
// handled.
func TestSession_HigherEpoch_FencesOwner(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		entered, leave := make(chan string, 10), make(chan struct{})
		r := on.StartReader(t, func(data []byte) error {
			entered <- string(data)
			if string(data) == "slow" {
				<-leave
			}
			return nil
		})
		id := udsipc.WriterID{1}
		first := on.Dial(t)
		w := ipctest.SayHello(t, first,
			wire.Hello{Writer: wire.WriterID(id), Epoch: 1, FirstSeq: 1}, "one", "slow", "three",
			"four")
		if w.Handled != 0 || w.Limit != 10<<20 {
			t.Errorf("the first welcome is %+v", w)
		}
		ipctest.Await(t, "one", entered)
		ipctest.Await(t, "slow", entered)
		second := on.Dial(t)
		ipctest.MustWrite(t, second, wire.Hello{Writer: wire.WriterID(id), Epoch: 2, FirstSeq: 1, LastSentSeq: 4}.Append(nil))
		ipctest.Until(t, "the second connection is there", func() bool { return r.Metrics().Connections == 2 })
		wait := 20 * time.Millisecond
		if on.Transport.Secure {
			wait = time.Second // Nothing tells when the hello has passed the TLS handshake.
		}
		second.SetReadDeadline(time.Now().Add(wait))
		if n, err := second.Read(make([]byte, 1)); n > 0 ||
			!errors.Is(err, context.DeadlineExceeded) && !ipctest.IsTimeout(err) {
			t.Errorf("%d bytes came before the handler had returned, %v", n, err)
		}
		close(leave)
		if w := ipctest.AwaitWelcome(t, second); w.Handled != 2 {
			t.Errorf("the second welcome is %+v, want 2 handled", w)
		}
		ipctest.MustWrite(t, second, ipctest.Frames("three", "four"))
		ipctest.AwaitAck(t, second, 4)
		ipctest.Until(t, "the first connection is gone", func() bool { return r.Metrics().Connections == 1 })
		data := ipctest.Await(t, "three", entered) + ipctest.Await(t, "four", entered)
		if data != "threefour" || len(entered) > 0 {
			t.Errorf("%q was handled, and %d more", data, len(entered))
		}
		if m := r.Metrics(); m.Received != 4 || m.DuplicatesSuppressed != 2 || m.Sessions != 2 || m.WriterStates != 1 {
			t.Errorf("%+v, want 4 received, 2 suppressed", m)
		}
		first.Close()
	})
}

// TestSession_LowerEpoch_IsRejected: the hello of an older connection does not take over.
func TestSession_LowerEpoch_IsRejected(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		errs := ipctest.Collect()
		got := make(chan string, 10)
		on.StartReader(t, func(data []byte) error { got <- string(data); return nil },
			udsipc.WithReaderErrorCallback(errs.Callback))
		id := udsipc.WriterID{1}
		conn := on.Dial(t)
		ipctest.SayHello(t, conn, wire.Hello{Writer: wire.WriterID(id), Epoch: 5, FirstSeq: 1}, "one")
		ipctest.AwaitAck(t, conn, 1)
		for _, attempt := range []uint64{4, 5, 1} {
			late := on.Dial(t)
			ipctest.MustWrite(t, late, wire.Hello{Writer: wire.WriterID(id), Epoch: attempt, FirstSeq: 1}.Append(nil))
			errs.Want(t, udsipc.ErrInvalidSession)
			answer, _ := io.ReadAll(late)
			if want := []byte{5, 1, 2, 0, 0, 0}; !slices.Equal(answer, want) {
				t.Errorf("attempt %d is answered % x, want % x", attempt, answer, want)
			}
		}
		ipctest.MustWrite(t, conn, ipctest.Frames("two"))
		ipctest.AwaitAck(t, conn, 2)
		if data := ipctest.Await(t, "one", got) + ipctest.Await(t, "two", got); data != "onetwo" {
			t.Errorf("got %q", data)
		}
	})
}

// TestRedelivery_HandlerFails_MarksAndWaits: a message whose handler fails comes again, marked, and
// those behind it wait.
func TestRedelivery_HandlerFails_MarksAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type call struct {
			data        string
			seq         uint64
			redelivered bool
			at          time.Duration
		}
		var calls []call
		var dead []call
		began := time.Now()
		note := func(d *udsipc.Delivery) call {
			return call{string(d.Data), d.Seq, d.Redelivered, time.Since(began)}
		}
		fail := errors.New("database is locked")
		failures := map[string]int{"twice": 2, "never": 100, "panics": 1}
		handler := func(_ context.Context, d *udsipc.Delivery) error {
			calls = append(calls, note(d))
			if failures[string(d.Data)]--; failures[string(d.Data)] >= 0 {
				if string(d.Data) == "panics" {
					panic(fail)
				}
				return fail
			}
			return nil
		}
		l := ipctest.ListenInMemory()
		errs := ipctest.Collect()
		r, err := udsipc.NewDeliveryReader(handler, "x", udsipc.WithListener(l),
			udsipc.WithReaderErrorCallback(errs.Callback),
			udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
				if !errors.Is(err, fail) {
					t.Errorf("dead letter because of %v", err)
				}
				dead = append(dead, note(d))
			}))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		w := ipctest.StartWriter(t, "x", udsipc.WithDialer(l.Dial), udsipc.WithAcknowledgements())
		for _, message := range []string{"a", "twice", "b", "never", "panics", "c"} {
			ipctest.MustWriteMessage(t, w, message)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		const ms = time.Millisecond
		want := []call{
			{"a", 1, false, 0}, {"twice", 2, false, 0}, {"twice", 2, true, 10 * ms},
			{"twice", 2, true, 50 * ms}, {"b", 3, false, 50 * ms},
			{"never", 4, false, 50 * ms}, {"never", 4, true, 60 * ms}, {"never", 4, true, 100 * ms},
			{"never", 4, true, 260 * ms},
			{"panics", 5, false, 260 * ms}, {"panics", 5, true, 270 * ms}, {"c", 6, false, 270 * ms},
		}
		if !slices.Equal(calls, want) {
			t.Errorf("handler calls:\n%v, want\n%v", calls, want)
		}
		if want := []call{{"never", 4, true, 260 * ms}}; !slices.Equal(dead, want) {
			t.Errorf("dead letters: %v, want %v", dead, want)
		}
		m := r.Metrics()
		if m.DeadLetters != 1 || m.Redelivered != 6 || m.HandlerErrors != 2 || m.Panics != 1 ||
			m.Received != 6 || m.Acknowledged != 6 {
			t.Errorf("%+v", m)
		}
		if m := w.Metrics(); m.Acknowledged != 6 {
			t.Errorf("%+v, want 6 acknowledged", m)
		}
		err = errs.Want(t, udsipc.ErrHandlerFailed)
		for !strings.Contains(err.Error(), "dead letter after 3 redeliveries") {
			err = errs.Want(t, udsipc.ErrHandlerFailed)
		}
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
	})
}

// TestSession_SlowHandler_AcknowledgesByTimer: what is handled leaves the queue although the batch is not at its end.
func TestSession_SlowHandler_AcknowledgesByTimer(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		step := make(chan struct{})
		on.StartReader(t, func([]byte) error { <-step; return nil })
		w := on.StartWriter(t, udsipc.WithAcknowledgements())
		const n = 10
		for range n {
			ipctest.MustWriteMessage(t, w, "one of a batch")
		}
		for i := range uint64(n) {
			ipctest.Until(t, "the messages before are acknowledged",
				func() bool { m := w.Metrics(); return m.Acknowledged == i && m.Unacknowledged == n-i })
			step <- struct{}{}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSession_UnderLoad_BatchesAcks: under load one of them is for many messages.
func TestSession_UnderLoad_BatchesAcks(t *testing.T) {
	const n = 100_000
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, path)
	var count countingConn
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			count.Conn = conn
			return &count, err
		}))
	for i := range uint64(n) {
		if err := w.WriteMessage(ipctest.Number(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes := count.read.Load(); bytes > n/10 {
		t.Errorf("%d bytes came back for %d messages", bytes, n)
	}
}

// countingConn counts what is read.
type countingConn struct {
	net.Conn
	read atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// TestWriter_StopInSession_ReturnsUnacked: exactly that.
func TestWriter_StopInSession_ReturnsUnacked(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n, handled = 100, 37
		var calls atomic.Int64
		leave := make(chan struct{})
		defer close(leave)
		on.StartReader(t, func([]byte) error {
			if calls.Add(1) == handled+1 {
				<-leave
			}
			return nil
		})
		var back []uint64
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithUndelivered(func(data []byte) {
			back = append(back, binary.BigEndian.Uint64(data))
		}))
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, 50)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.Until(t, "the first messages are acknowledged", func() bool { return w.Metrics().Acknowledged == handled })
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := w.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush: %v, want the context's error", err)
		}
		if err := w.Stop(short); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), fmt.Sprint(n-handled)) {
			t.Errorf("Stop: %v, want %d messages left", err, n-handled)
		}
		if len(back) != n-handled || back[0] != handled || back[len(back)-1] != n-1 {
			t.Errorf("%d messages came back: %v", len(back), back)
		}
		if m := w.Metrics(); m.Acknowledged != handled || m.Undelivered != n-handled || m.Queued != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestWriter_StopWithoutWelcome_Returns: a Writer with nothing to send ends at once, though its reader has not
// welcomed it.
func TestWriter_StopWithoutWelcome_Returns(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	errs := ipctest.Collect()
	w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements(),
		udsipc.WithWriteTimeout(10*time.Millisecond),
		udsipc.WithWriterErrorCallback(errs.Callback))
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	errs.Want(t, udsipc.ErrBackpressure)
	ipctest.Stop(t, w)
}

// TestSession_GracefulRestart_RepeatsNothing is TestReader_GracefulRestart_LosesNothing with acknowledgements: a reader
// that stops acknowledges all that it has handled.
func TestSession_GracefulRestart_RepeatsNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const restarts = 8
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		s := ipctest.NewSequence(t, 1<<63)
		tick := make(chan struct{}, 1)
		handler := func(_ context.Context, d *udsipc.Delivery) error {
			select {
			case tick <- struct{}{}:
			default:
			}
			if n := binary.BigEndian.Uint64(d.Data); d.Seq != n+1 || d.Redelivered {
				t.Errorf("message %d has the number %d, redelivered %v", n, d.Seq, d.Redelivered)
			}
			return s.Handle(d.Data)
		}
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		written := make(chan uint64)
		go func() {
			var n uint64
			defer func() { written <- n }()
			for ; w.WriteMessageContext(ctx, ipctest.Number(n, int(n%3000))) == nil; n++ {
			}
		}()
		var acknowledged uint64
		for i := range restarts + 1 {
			r := on.StartDeliveryReader(t, handler)
			for range 20 {
				ipctest.Await(t, "messages", tick)
			}
			if i == restarts {
				cancel()
				n := <-written
				ipctest.Stop(t, w)
				s.Mu.Lock()
				if s.Next != n {
					t.Errorf("%d messages were handled, %d written", s.Next, n)
				}
				s.Mu.Unlock()
			}
			ipctest.Stop(t, r)
			m := r.Metrics()
			if m.Acknowledged != m.Received {
				t.Errorf("%d messages were handled, %d acknowledged", m.Received, m.Acknowledged)
			}
			acknowledged += m.Acknowledged
		}
		if m := w.Metrics(); m.Acknowledged != acknowledged || m.PossiblyLost != 0 || m.Undelivered != 0 {
			t.Errorf("%+v, want %d acknowledged", m, acknowledged)
		}
	})
}
