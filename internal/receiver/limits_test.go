// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestReader_MaxConnectionsPerUser_Rejects(t *testing.T) {
	if !ipctest.TellsCredentials {
		t.Skip("this system does not tell whose a connection is")
	}
	path := ipctest.SocketPath(t)
	errs := ipctest.Collect()
	r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithMaxConnectionsPerUser(2),
		udsipc.WithReaderErrorCallback(errs.Callback))
	conns := []net.Conn{ipctest.MustDial(t, path), ipctest.MustDial(t, path)}
	ipctest.Until(t, "two are there", func() bool { return r.Metrics().Connections == 2 })
	ipctest.MustDial(t, path)
	if err := errs.Want(t, udsipc.ErrTooManyConnections); !strings.Contains(err.Error(), "WithMaxConnectionsPerUser") {
		t.Error(err)
	}
	conns[0].Close()
	ipctest.Until(t, "one is gone", func() bool { return r.Metrics().Connections == 1 })
	ipctest.MustDial(t, path)
	ipctest.Until(t, "another is there", func() bool { m := r.Metrics(); return m.Connections == 2 && m.Refused == 1 })
}

// TestReader_SlowPeers_TimeOut: the first message, and each one, must be there whole within a bounded time. A
// connection that has said nothing at all is idle, and not worth a report.
func TestReader_SlowPeers_TimeOut(t *testing.T) {
	hello := wire.Hello{Epoch: 1, FirstSeq: 1}.Append(nil)
	for name, test := range map[string]struct {
		first  []byte        // At once,
		each   []byte        // and this every second.
		ends   time.Duration // 0: it stays.
		report bool
	}{
		"nothing":                   {nil, nil, 10 * time.Second, false},
		"half a first message":      {[]byte{5, 'a'}, nil, 10 * time.Second, true},
		"a first message, trickled": {[]byte{100, 'a'}, []byte{'a'}, 10 * time.Second, true},
		"half a hello":              {hello[:20], nil, 10 * time.Second, true},
		"a hello, trickled":         {hello[:1], hello[1:2], 10 * time.Second, true},
		"a later message, trickled": {[]byte{1, 'a', 100, 'b'}, []byte{'b'}, 30 * time.Second, true},
		"a prefix, trickled":        {[]byte{1, 'a', 0x80}, []byte{0x80}, 10 * time.Second, true},
		"many short ones":           {nil, []byte{1, 'a'}, 0, false},
		"many, each split":          {[]byte{2, 'a'}, []byte{'b', 2, 'a'}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(ipctest.SimNet)
				errs := ipctest.Collect()
				r := ipctest.StartReader(t, ipctest.Ignore, "x", udsipc.WithListener(n.Listen()),
					udsipc.WithInactivityTimeout(0), udsipc.WithReaderErrorCallback(errs.Callback))
				conn, err := n.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if len(test.first) > 0 {
					ipctest.MustWrite(t, conn, test.first)
				}
				var ended time.Duration
				for time.Since(began) < 100*time.Second && ended == 0 {
					time.Sleep(time.Second)
					synctest.Wait()
					if r.Metrics().IdleClosed+r.Metrics().TooSlow+r.Metrics().Malformed > 0 {
						ended = time.Since(began)
					} else if len(test.each) > 0 {
						ipctest.MustWrite(t, conn, test.each)
					}
				}
				if ended > 0 != (test.ends > 0) || ended > test.ends+2*time.Second || ended > 0 &&
					ended < test.ends-time.Second && !strings.Contains(name, "hello, trickled") {
					t.Errorf("ended after %v, want %v", ended, test.ends)
				}
				if m := r.Metrics(); (m.TooSlow+m.Malformed > 0) != test.report || test.ends == 0 && m.Connections != 1 {
					t.Errorf("%+v", m)
				}
				if test.report && r.Metrics().Malformed == 0 {
					if err := errs.Want(t, udsipc.ErrTooSlow); !strings.Contains(err.Error(), "MessageTimeout") {
						t.Error(err)
					}
				}
				conn.Close()
				ipctest.Stop(t, r)
			})
		})
	}
}

// TestReader_StalledLargeMessage_TimesOut: while a message holds read memory, the timeouts run on.
func TestReader_StalledLargeMessage_TimesOut(t *testing.T) {
	hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}.Append(nil)
	for name, test := range map[string]struct {
		before []byte
		opts   []udsipc.ReaderOption
	}{
		"inactivity": {nil, []udsipc.ReaderOption{udsipc.WithFirstMessageTimeout(0)}},
		"inactivity, no limit for the message": {nil,
			[]udsipc.ReaderOption{udsipc.WithFirstMessageTimeout(0), udsipc.WithMessageTimeout(0)}},
		"a silent peer": {hello, []udsipc.ReaderOption{udsipc.WithInactivityTimeout(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(ipctest.SimNet)
				r := ipctest.StartReader(t, ipctest.Ignore, "x", append(test.opts, udsipc.WithListener(n.Listen()))...)
				conn, err := n.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(test.before) > 0 {
					ipctest.MustWrite(t, conn, test.before)
					ipctest.AwaitWelcome(t, conn)
				}
				ipctest.MustWrite(t, conn, ipctest.Announced(1<<20, 40<<10))
				time.Sleep(9 * time.Second)
				if m := r.Metrics(); m.ReadMemory == 0 || m.Connections != 1 {
					t.Errorf("after 9 s: %+v", m)
				}
				time.Sleep(4 * time.Second) // The goodbye takes one.
				if m := r.Metrics(); m.Connections != 0 {
					t.Errorf("after 13 s: %+v", m)
				}
				conn.Close()
				ipctest.Stop(t, r)
			})
		})
	}
}

// TestReadMemory_StalledMessages_AreBounded: connections that send a part of a large message and
// stall use up the memory. Small messages pass; a large one waits its turn, and passes when the
// others are given up.
func TestReadMemory_StalledMessages_AreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, large, stalled = 1 << 20, 400 << 10, 20
		n := new(ipctest.SimNet)
		var got [3]atomic.Int64 // Small ones, large ones, damaged ones.
		handler := func(data []byte) error {
			switch {
			case len(data) == large && bytes.Count(data, []byte{'h'}) == large:
				got[1].Add(1)
			case string(data) == "small":
				got[0].Add(1)
			default:
				got[2].Add(1)
			}
			return nil
		}
		r := ipctest.StartReader(t, handler, "x", udsipc.WithListener(n.Listen()),
			udsipc.WithMaxReadMemory(limit), udsipc.WithInactivityTimeout(0))
		dial := func() net.Conn {
			conn, err := n.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		header := binary.AppendUvarint(nil, large)
		for range stalled {
			conn := dial()
			ipctest.MustWrite(t, conn, ipctest.Frames("small"))
			go func() {
				conn.Write(append(header, make([]byte, large*3/4)...))
				<-t.Context().Done()
				conn.Close()
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		used := r.Metrics().ReadMemory
		if used > limit+1<<19 {
			t.Errorf("%d bytes are used, the limit is %d and one message more", used, limit)
		}
		honest := dial()
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn := dial()
			conn.Write(append(header, bytes.Repeat([]byte{'h'}, large)...))
			<-t.Context().Done()
			conn.Close()
		}()
		for range 100 {
			ipctest.MustWrite(t, honest, ipctest.Frames("small"))
			synctest.Wait()
		}
		if small := got[0].Load(); small != stalled+100 {
			t.Errorf("%d small messages passed, want %d", small, stalled+100)
		}
		time.Sleep(20 * time.Minute)
		if m := r.Metrics(); got[1].Load() != 1 || got[2].Load() != 0 || m.TooSlow != stalled ||
			m.ReadMemoryWaits == 0 || m.ReadMemory != 0 {
			t.Errorf("%d large messages passed, %d damaged, %+v", got[1].Load(), got[2].Load(), m)
		}
		honest.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestReadMemory_ManyLargeMessages_AllArrive: many large messages at once, each larger than what there is, all arrive.
func TestReadMemory_ManyLargeMessages_AllArrive(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const writers, each, size = 8, 5, 1 << 20
		var handled atomic.Int64
		r := on.StartReader(t, func(data []byte) error {
			if len(data) != size {
				return errors.New("damaged")
			}
			handled.Add(1)
			return nil
		}, udsipc.WithMaxReadMemory(1<<19))
		data := make([]byte, size)
		for range writers {
			w := on.StartWriter(t)
			for range each {
				if err := w.WriteMessage(data); err != nil {
					t.Fatal(err)
				}
			}
		}
		ipctest.Until(t, "all are handled", func() bool { return handled.Load() == writers*each })
		ipctest.Until(t, "the memory is given back", func() bool { return r.Metrics().ReadMemory == 0 })
	})
}
