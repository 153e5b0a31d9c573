// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestSession_PlainReader_ReportsAcksUnsupported: a reader that knows only frames fails at the eleventh byte. From the
// second time in a row on, the Writer says so. It keeps its messages, and delivers them when a reader comes that can
// answer. A reader that leaves bytes unread, as a killed one does, is not accused.
func TestSession_PlainReader_ReportsAcksUnsupported(t *testing.T) {
	t.Run("reads all", func(t *testing.T) {
		errs := meetPlainReader(t, bufio.MaxScanTokenSize)
		if len(errs) != 1 {
			t.Errorf("%d reports, want one of the new cause: %v", len(errs), errs)
		}
		for _, err := range errs {
			if !errors.Is(err, udsipc.ErrAcksUnsupported) || !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
	})
	t.Run("leaves bytes unread", func(t *testing.T) {
		for _, err := range meetPlainReader(t, 11) {
			if errors.Is(err, udsipc.ErrAcksUnsupported) || !errors.Is(err, udsipc.ErrConnectionClosed) {
				t.Error(err)
			}
		}
	})
}

// meetPlainReader has a Writer meet a reader that knows only frames, and reads up to so many bytes. It returns what is
// reported from the second connection on.
func meetPlainReader(t *testing.T, most int) (later []error) {
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
			head := make([]byte, most)
			n, err := io.ReadAtLeast(conn, head, 11)
			if _, size := binary.Uvarint(head[:n]); err == nil && size >= 0 {
				err = fmt.Errorf("% x can be a length", head[:n])
			}
			refused <- err
			conn.Close()
		}
	}()
	errs := ipctest.Collect()
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(),
		udsipc.WithWriterErrorCallback(errs.Callback), udsipc.WithMaxBackoff(20*time.Millisecond))
	ipctest.MustWriteMessage(t, w, "kept")
	for range 4 { // It goes on trying.
		if err := ipctest.Await(t, "a connection", refused); err != nil {
			t.Error(err)
		}
	}
	err = ipctest.Await(t, "a report", errs.Events)
	if errors.Is(err, udsipc.ErrAcksUnsupported) || !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Error(err)
	}
	for len(errs.Events) > 0 { // What is new is reported before the next connection.
		later = append(later, <-errs.Events)
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
	return later
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
