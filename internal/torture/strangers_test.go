// SPDX-License-Identifier: Apache-2.0

package torture_test

// What a Writer says when its messages meet something that does not take them: a Reader with other
// settings, another kind of server, or a stranger.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

type counter = atomic.Uint64

// A stranger is something that listens where a Writer expects its Reader.
type stranger struct {
	name  string
	large int // Size of one message in the middle; 0 for none.
	small int // Number of messages of 100 bytes.
	// start listens, and counts in handled the messages that were handled.
	start func(t *testing.T, on *ipctest.Route, handled *counter)
	pause time.Duration // The longest wait for the end of a connection.
	says  string        // What the error callback gets, in plain mode.
}

var errNoEntry = errors.New("no entry")

// count returns a handler that counts messages.
func count(handled *counter) udsipc.MessageHandler {
	return func([]byte) error { handled.Add(1); return nil }
}

// strangers are what a Writer may meet.
var strangers = []stranger{
	{name: "a Reader that speaks TLS", says: "WithTLS", start: func(t *testing.T, on *ipctest.Route, handled *counter) {
		config, _ := ipctest.NewAuthority(t).Configs(t)
		opts := on.ReaderOptions(t)
		if !on.Secure { // Else it is one with a certificate of another authority.
			opts = append(opts, udsipc.WithTLS(config))
		}
		ipctest.StartReader(t, count(handled), on.Address, opts...)
	}},
	{name: "a Reader of 50 bytes", says: "limit is 50", start: func(t *testing.T, on *ipctest.Route, handled *counter) {
		on.StartReader(t, count(handled), udsipc.WithMaxMessageSize(50))
	}},
	{name: "a Reader of 64 KiB", says: "limit is 65536", small: 1000, large: 100 << 10,
		start: func(t *testing.T, on *ipctest.Route, handled *counter) {
			on.StartReader(t, count(handled), udsipc.WithMaxMessageSize(64<<10))
		}},
	{name: "an authorizer that refuses", says: "WithAuthorizer",
		start: func(t *testing.T, on *ipctest.Route, handled *counter) {
			on.StartReader(t, count(handled), udsipc.WithAuthorizer(func(udsipc.Peer) error { return errNoEntry }))
		}},
	{name: "an rpc server", says: "rpc", start: func(t *testing.T, on *ipctest.Route, _ *counter) {
		startRPC(t, on)
	}},
	{name: "an rpc server that speaks TLS", says: "use ", start: func(t *testing.T, on *ipctest.Route, _ *counter) {
		var opts []udsipc.ReaderOption
		if !on.Secure {
			config, _ := ipctest.NewAuthority(t).Configs(t)
			opts = append(opts, udsipc.WithTLS(config))
		}
		startRPC(t, on, opts...)
	}},
	{name: "an rpc server that refuses", says: "WithAuthorizer", start: func(t *testing.T, on *ipctest.Route, _ *counter) {
		startRPC(t, on, udsipc.WithAuthorizer(func(udsipc.Peer) error { return errNoEntry }))
	}},
	{name: "a duplex server with a codec", says: "duplex", start: func(t *testing.T, on *ipctest.Route, handled *counter) {
		numbers := codec.JSON[int]()
		s, err := duplex.NewServer(on.Address, func(_ context.Context, _ *duplex.ServerConn, m duplex.Message) error {
			_, err := numbers.Decode(m.Data)
			if err != nil {
				return fmt.Errorf("%w: %w", duplex.ErrInvalidMessage, err)
			}
			handled.Add(1)
			return nil
		}, on.ReaderOptions(t)...)
		if err == nil {
			err = s.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ipctest.Stop(t, s) })
	}},
	foreign("reads a little and closes", func(conn net.Conn) { _, _ = conn.Read(make([]byte, 10)) }),
	foreign("reads all it gets at once and closes", func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1<<20)) }),
	foreign("closes at once", func(net.Conn) {}),
	foreign("answers in another protocol", func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 10))
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
	}),
	foreign("reads, answers and stays", func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 10))
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}),
}

func startRPC(t *testing.T, on *ipctest.Route, opts ...udsipc.ReaderOption) {
	s, err := rpc.NewServer(on.Address, on.ReaderOptions(t, opts...)...)
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, s) })
}

// foreign returns a stranger that serves each connection with serve, and closes it.
func foreign(name string, serve func(conn net.Conn)) stranger {
	s := stranger{name: name, says: "connection", pause: 20 * time.Millisecond}
	s.start = func(t *testing.T, on *ipctest.Route, _ *counter) {
		l := on.Listen(t)
		t.Cleanup(func() { l.Close() })
		go func() { // Ends with the listener.
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { // Ends with the peer.
					serve(conn)
					conn.Close()
				}()
			}
		}()
	}
	return s
}

// TestWriter_Stranger_IsReported: each message that was not handled is in a counter, Flush or Stop fails, and the
// error callback gets the cause.
func TestWriter_Stranger_IsReported(t *testing.T) {
	for _, s := range strangers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) { s.meet(t, on) })
		})
	}
}

// unreadAtStop is what a forced Stop says of messages that are in no counter.
var unreadAtStop = regexp.MustCompile(`up to (\d+) messages? (?:is|are) with the kernel`)

func (s stranger) meet(t *testing.T, on *ipctest.Route) {
	var handled counter
	s.start(t, on, &handled)
	errs := ipctest.Collect()
	w := on.StartedWriter(t, udsipc.WithMaxBackoff(time.Millisecond), udsipc.WithWriterErrorCallback(errs.Callback))
	s.write(t, w)
	var said strings.Builder
	told := func() bool {
		for len(errs.Events) > 0 {
			fmt.Fprintln(&said, <-errs.Events)
		}
		return strings.Contains(said.String(), s.says) ||
			on.Acknowledged && strings.Contains(said.String(), "does not acknowledge")
	}
	flushed, stopped := end(t, w, told)
	m := w.Metrics()
	ipctest.CheckInvariant(t, m)
	wasTold := told()
	accounted := handled.Load() + m.Undelivered + m.PossiblyLost
	if found := unreadAtStop.FindStringSubmatch(fmt.Sprint(stopped)); found != nil {
		unread, _ := strconv.ParseUint(found[1], 10, 64)
		accounted += unread
	}
	if accounted < m.Accepted {
		t.Errorf("lost in silence: %d", m.Accepted-accounted)
	}
	if m.Accepted > handled.Load() {
		if flushed == nil && stopped == nil {
			t.Error("Flush and Stop return nil")
		}
		if flushed == nil && !on.Acknowledged && strings.HasSuffix(s.name, "stays") {
			t.Error("Flush returns nil: nobody is told before Stop")
		}
		if !wasTold {
			t.Errorf("the callback was not told of %q", s.says)
		}
	}
	if lines := strings.Count(said.String(), "\n"); !on.Acknowledged && m.DialErrors == 0 && lines > 4 {
		t.Errorf("%d reports", lines)
	}
	if t.Failed() {
		t.Logf("%d handled, %d connections, %+v\nFlush: %v\nStop: %v\n%.2000s",
			handled.Load(), m.Connections, m, flushed, stopped, said.String())
	}
}

// write writes the messages with pauses, so that there are several connections.
func (s stranger) write(t *testing.T, w *udsipc.Writer) {
	number := max(s.small, 100)
	for i := range number {
		size := 100
		if i == number/2 && s.large > 0 {
			size = s.large
		}
		err := w.WriteMessage(bytes.Repeat([]byte("x"), size))
		if err != nil && !errors.Is(err, udsipc.ErrMessageTooLarge) {
			t.Fatal(err)
		}
		if i%(number/10) != 0 {
			continue
		}
		// For a foreign peer, that is the end of the connection; else there may be none.
		for until := time.Now().Add(s.pause); w.Metrics().LostConnections <= uint64(10*i/number); {
			if time.Now().After(until) {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// end flushes and stops a Writer. It waits only for what is on its way.
func end(t *testing.T, w *udsipc.Writer, told func() bool) (flushed, stopped error) {
	patience := 30 * time.Second
	for until := time.Now().Add(100 * time.Millisecond); w.Metrics().Queued > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			patience = 0
			for until = until.Add(10 * time.Second); !told() && time.Now().Before(until); time.Sleep(time.Millisecond) {
				if w.Metrics().Queued == 0 { // A busy machine. A Stop that does not wait is told of nothing.
					patience = 30 * time.Second
					break
				}
			}
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flushed, stopped = w.Flush(ctx), w.Stop(ctx)
	if stopped != nil && strings.Contains(stopped.Error(), "has not ended yet") { // A busy machine. Now it has a number.
		stopped = errors.Join(stopped, w.Stop(t.Context()))
	}
	return flushed, stopped
}
