// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// Every test of delivery runs over every transport of the table in this file. A promise that holds over one
// of them alone is a bug of the promise, or has the transport in its name.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// A transport is a way for messages from a Writer to a Reader.
type transport struct {
	name    string
	address func(tb testing.TB) string
	secure  bool // TLS.
	wrapped bool // Both ends see a net.Conn of a type that the library does not know.
	whole   bool // It cannot be closed in one direction.
	spelled bool // Only the address is written in another way.
}

var transports = []transport{
	{name: "unix", address: socketPath},
	{name: "prefixed", address: func(tb testing.TB) string { return "unix:" + socketPath(tb) }, spelled: true},
	{name: "abstract", address: abstractName},
	{name: "tcp", address: tcpAddress},
	{name: "tls over unix", address: socketPath, secure: true},
	{name: "tls over tcp", address: tcpAddress, secure: true},
	{name: "wrapped", address: socketPath, wrapped: true},
}

// tcp says whether the bytes go over TCP.
func (tr transport) tcp() bool { return strings.Contains(tr.name, "tcp") }

// bare says whether the library sees the socket itself.
func (tr transport) bare() bool { return !tr.secure && !tr.wrapped }

// flushMeansRead says whether a plain Flush returns when the Reader has read everything, and not just when
// it is on its way.
func (tr transport) flushMeansRead() bool {
	return tr.bare() && !tr.tcp() && runtime.GOOS == "linux"
}

// takesWhole says whether a message of some MiB leaves the Writer whole although the Reader refuses it: the
// kernels of TCP hold that much, and a record of TLS cannot be left in the middle.
func (tr transport) takesWhole() bool { return tr.tcp() || tr.secure }

var abstractCount atomic.Int64

func abstractName(tb testing.TB) string {
	tb.Helper()
	if runtime.GOOS != "linux" {
		tb.Skip("abstract names exist on Linux alone")
	}
	return fmt.Sprintf("@udsipc-test-%d-%d", os.Getpid(), abstractCount.Add(1))
}

// overAddresses runs a test over each transport for which an address says everything. It is for tests of
// addresses, and for those that set TLS or a dialer themselves.
func overAddresses(t *testing.T, test func(t *testing.T, address string)) {
	for _, tr := range transports {
		if tr.bare() {
			t.Run(tr.name, func(t *testing.T) { test(t, tr.address(t)) })
		}
	}
}

// overTransports runs a test over each transport.
func overTransports(t *testing.T, test func(t *testing.T, on *route)) {
	for _, tr := range transports {
		if !tr.spelled {
			t.Run(tr.name, func(t *testing.T) { test(t, &route{transport: tr, address: tr.address(t)}) })
		}
	}
}

// overModes runs a test over each transport, plain and acknowledged.
func overModes(t *testing.T, test func(t *testing.T, on *route)) {
	for _, acknowledged := range []bool{false, true} {
		name := "plain"
		if acknowledged {
			name = "acknowledged"
		}
		t.Run(name, func(t *testing.T) {
			overTransports(t, func(t *testing.T, on *route) {
				on.acknowledged = acknowledged
				test(t, on)
			})
		})
	}
}

// memories are connections in memory, of a type that the library does not know, for tests under a fake clock.
var memories = []transport{
	{name: "memory", wrapped: true},
	{name: "memory without half-close", wrapped: true, whole: true},
	{name: "tls over memory", wrapped: true, secure: true},
}

// overMemory runs a test under a fake clock over each of memories, plain and acknowledged.
func overMemory(t *testing.T, test func(t *testing.T, on *route)) {
	for _, tr := range memories {
		for _, acknowledged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, acknowledged %v", tr.name, acknowledged), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					test(t, &route{transport: tr, address: "memory", net: new(simNet), acknowledged: acknowledged})
				})
			})
		}
	}
}

// A route is a transport in one test. Its methods give Readers and Writers what they need for it.
type route struct {
	transport
	address      string
	net          *simNet        // nil: sockets.
	acknowledged bool           // What Writers ask for.
	tls          [2]*tls.Config // Of Readers and Writers, once they are wanted.
}

// configs returns the TLS configurations of Readers and Writers. They are made for the route, because a
// certificate is valid by the clock that it was made under.
func (on *route) configs(tb testing.TB) (reader, writer *tls.Config) {
	tb.Helper()
	if on.tls[0] == nil {
		on.tls[0], on.tls[1] = newAuthority(tb).configs(tb)
	}
	return on.tls[0], on.tls[1]
}

// wrappedConn is a type that the library does not know.
type wrappedConn struct{ net.Conn }

// CloseWrite is what not every such type has (overMemory).
func (c wrappedConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// wrappedListener gives out such connections.
type wrappedListener struct{ net.Listener }

func (l wrappedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrappedConn{conn}, nil
}

// wholeConn is a net.Conn and nothing else.
type wholeConn struct{ net.Conn }

type wholeListener struct{ net.Listener }

func (l wholeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wholeConn{conn}, nil
}

// readerOptions are those of one Reader, followed by opts. They may listen already.
func (on *route) readerOptions(tb testing.TB, opts ...udsipc.ReaderOption) []udsipc.ReaderOption {
	tb.Helper()
	var own []udsipc.ReaderOption
	if on.secure {
		config, _ := on.configs(tb)
		own = append(own, udsipc.WithTLS(config))
	}
	switch {
	case on.whole:
		own = append(own, udsipc.WithListener(wholeListener{on.net.listen()}))
	case on.net != nil:
		own = append(own, udsipc.WithListener(on.net.listen()))
	case on.wrapped:
		own = append(own, udsipc.WithListener(wrappedListener{mustListen(tb, on.address)}))
	}
	return append(own, opts...)
}

// writerOptions are those of a Writer, followed by opts.
func (on *route) writerOptions(tb testing.TB, opts ...udsipc.WriterOption) []udsipc.WriterOption {
	tb.Helper()
	var own []udsipc.WriterOption
	if on.acknowledged {
		own = append(own, udsipc.WithAcknowledgements())
	}
	if on.secure {
		_, config := on.configs(tb)
		own = append(own, udsipc.WithTLS(config))
	}
	if on.net != nil || on.wrapped {
		own = append(own, udsipc.WithDialer(on.connect))
	}
	return append(own, opts...)
}

func (on *route) startReader(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return startReader(tb, handler, on.address, on.readerOptions(tb, opts...)...)
}

func (on *route) startDeliveryReader(tb testing.TB, handler udsipc.DeliveryHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return startDeliveryReader(tb, handler, on.address, on.readerOptions(tb, opts...)...)
}

// startWriter returns a Writer that is stopped at the end, and must end well.
func (on *route) startWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return startWriter(tb, on.address, on.writerOptions(tb, opts...)...)
}

// newWriter returns a Writer that is not started, and stopped without patience at the end.
func (on *route) newWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return newWriter(tb, on.address, on.writerOptions(tb, opts...)...)
}

func (on *route) startedWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w := on.newWriter(tb, opts...)
	mustStart(tb, w)
	return w
}

// connect is a dialer: it returns a connection of the transport, without TLS.
func (on *route) connect(ctx context.Context) (net.Conn, error) {
	if on.net != nil {
		conn, err := on.net.dial(ctx)
		if on.whole && err == nil {
			conn = wholeConn{conn}
		}
		return conn, err
	}
	network, name := networkOf(on.address)
	conn, err := new(net.Dialer).DialContext(ctx, network, name)
	if on.wrapped && err == nil {
		conn = wrappedConn{conn}
	}
	return conn, err
}

// connectSecurely is a dialer for Writers that are to know nothing of TLS: if the Reader speaks it, the
// connection does already.
func (on *route) connectSecurely(tb testing.TB) func(context.Context) (net.Conn, error) {
	if !on.secure {
		return on.connect
	}
	_, config := on.configs(tb)
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := on.connect(ctx)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		return secure, secure.HandshakeContext(ctx)
	}
}

// dial is a writer by hand. It speaks TLS if the Reader does, and can close its sending side.
func (on *route) dial(tb testing.TB) net.Conn {
	tb.Helper()
	conn, err := on.connectSecurely(tb)(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if wrapped, ok := conn.(wrappedConn); ok {
		conn = wrapped.Conn
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// listen is a reader by hand. It speaks TLS if the Writer does.
func (on *route) listen(tb testing.TB) net.Listener {
	tb.Helper()
	l := mustListen(tb, on.address)
	if on.secure {
		config, _ := on.configs(tb)
		l = tls.NewListener(l, config)
	}
	return l
}

// readToEnd reads as a writer by hand does that knows the goodbye: it closes its sending side then.
func readToEnd(tb testing.TB, conn net.Conn) {
	tb.Helper()
	b := make([]byte, 100)
	for {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(b)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && bytes.Contains(b[:n], []byte{0}) {
			_ = half.CloseWrite() // A Unix socket may be at its end already.
		}
		if isTimeout(err) {
			tb.Error("the connection does not end")
		}
		if err != nil {
			return
		}
	}
}

// mustListen listens until the end of the test, or until Close.
func mustListen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	network, name := networkOf(address)
	var l net.Listener
	whileInUse(tb, func() (err error) { l, err = net.Listen(network, name); return err })
	tb.Cleanup(func() { l.Close() })
	return l
}

// networkOf splits an address into what package net wants.
func networkOf(address string) (network, name string) {
	if name, ok := strings.CutPrefix(address, "tcp://"); ok {
		return "tcp", name
	}
	return "unix", strings.TrimPrefix(address, "unix:")
}

func mustDial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	network, name := networkOf(address)
	conn, err := net.Dial(network, name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}
