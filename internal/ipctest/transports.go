// SPDX-License-Identifier: Apache-2.0

package ipctest

// Every test of delivery runs over every transport of the table in this file. A promise that holds over one
// of them alone is a bug of the promise, or has the transport in its name.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc"
)

// A Transport is a way for messages from a Writer to a Reader.
type Transport struct {
	Name    string
	Address func(tb testing.TB) string
	Secure  bool // TLS.
	Wrapped bool // Both ends see a net.Conn of a type that the library does not know.
	whole   bool // It cannot be closed in one direction.
	Spelled bool // Only the address is written in another way.
}

var Transports = []Transport{
	{Name: "unix", Address: SocketPath},
	{Name: "prefixed", Address: func(tb testing.TB) string { return "unix:" + SocketPath(tb) }, Spelled: true},
	{Name: "abstract", Address: AbstractName},
	{Name: "tcp", Address: TcpAddress},
	{Name: "tls over unix", Address: SocketPath, Secure: true},
	{Name: "tls over tcp", Address: TcpAddress, Secure: true},
	{Name: "wrapped", Address: SocketPath, Wrapped: true},
}

// Tcp says whether the bytes go over TCP.
func (tr Transport) Tcp() bool { return strings.Contains(tr.Name, "tcp") }

// Bare says whether the library sees the socket itself.
func (tr Transport) Bare() bool { return !tr.Secure && !tr.Wrapped }

// FlushMeansRead says whether a plain Flush returns when the Reader has read everything, and not just when
// it is on its way.
func (tr Transport) FlushMeansRead() bool {
	return tr.Bare() && !tr.Tcp() && runtime.GOOS == "linux"
}

// TakesWhole says whether a message of some MiB leaves the Writer whole although the Reader refuses it: the
// kernels of TCP hold that much, and a record of TLS cannot be left in the middle.
func (tr Transport) TakesWhole() bool { return tr.Tcp() || tr.Secure }

// OverAddresses runs a test over each transport for which an address says everything. It is for tests of
// addresses, and for those that set TLS or a dialer themselves.
func OverAddresses(t *testing.T, test func(t *testing.T, address string)) {
	for _, tr := range Transports {
		if tr.Bare() {
			t.Run(tr.Name, func(t *testing.T) { test(t, tr.Address(t)) })
		}
	}
}

// OverTransports runs a test over each transport.
func OverTransports(t *testing.T, test func(t *testing.T, on *Route)) {
	for _, tr := range Transports {
		if !tr.Spelled {
			t.Run(tr.Name, func(t *testing.T) { test(t, &Route{Transport: tr, Address: tr.Address(t)}) })
		}
	}
}

// OverModes runs a test over each transport, plain and acknowledged.
func OverModes(t *testing.T, test func(t *testing.T, on *Route)) {
	for _, acknowledged := range []bool{false, true} {
		name := "plain"
		if acknowledged {
			name = "acknowledged"
		}
		t.Run(name, func(t *testing.T) {
			OverTransports(t, func(t *testing.T, on *Route) {
				on.Acknowledged = acknowledged
				test(t, on)
			})
		})
	}
}

// Memories are connections in memory, of a type that the library does not know, for tests under a fake clock.
var Memories = []Transport{
	{Name: "memory", Wrapped: true},
	{Name: "memory without half-close", Wrapped: true, whole: true},
	{Name: "tls over memory", Wrapped: true, Secure: true},
}

// OverMemory runs a test under a fake clock over each of memories, plain and acknowledged.
func OverMemory(t *testing.T, test func(t *testing.T, on *Route)) {
	for _, tr := range Memories {
		for _, acknowledged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, acknowledged %v", tr.Name, acknowledged), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					test(t, &Route{Transport: tr, Address: "memory", Net: new(SimNet), Acknowledged: acknowledged})
				})
			})
		}
	}
}

// A Route is a transport in one test. Its methods give Readers and Writers what they need for it.
type Route struct {
	Transport
	Address      string
	Net          *SimNet        // nil: sockets.
	Acknowledged bool           // What Writers ask for.
	tls          [2]*tls.Config // Of Readers and Writers, once they are wanted.
}

// Configs returns the TLS configurations of Readers and Writers. They are made for the route, because a
// certificate is valid by the clock that it was made under.
func (on *Route) Configs(tb testing.TB) (reader, writer *tls.Config) {
	tb.Helper()
	if on.tls[0] == nil {
		on.tls[0], on.tls[1] = NewAuthority(tb).Configs(tb)
	}
	return on.tls[0], on.tls[1]
}

// WrappedConn is a type that the library does not know.
type WrappedConn struct{ net.Conn }

// CloseWrite is what not every such type has (OverMemory).
func (c WrappedConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// WrappedListener gives out such connections.
type WrappedListener struct{ net.Listener }

func (l WrappedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return WrappedConn{conn}, nil
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

// ReaderOptions are those of one Reader, followed by opts. They may listen already.
func (on *Route) ReaderOptions(tb testing.TB, opts ...udsipc.ReaderOption) []udsipc.ReaderOption {
	tb.Helper()
	var own []udsipc.ReaderOption
	if on.Secure {
		config, _ := on.Configs(tb)
		own = append(own, udsipc.WithTLS(config))
	}
	switch {
	case on.whole:
		own = append(own, udsipc.WithListener(wholeListener{on.Net.Listen()}))
	case on.Net != nil:
		own = append(own, udsipc.WithListener(on.Net.Listen()))
	case on.Wrapped:
		own = append(own, udsipc.WithListener(WrappedListener{MustListen(tb, on.Address)}))
	}
	return append(own, opts...)
}

// WriterOptions are those of a Writer, followed by opts.
func (on *Route) WriterOptions(tb testing.TB, opts ...udsipc.WriterOption) []udsipc.WriterOption {
	tb.Helper()
	var own []udsipc.WriterOption
	if on.Acknowledged {
		own = append(own, udsipc.WithAcknowledgements())
	}
	if on.Secure {
		_, config := on.Configs(tb)
		own = append(own, udsipc.WithTLS(config))
	}
	if on.Net != nil || on.Wrapped {
		own = append(own, udsipc.WithDialer(on.Connect))
	}
	return append(own, opts...)
}

func (on *Route) StartReader(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return StartReader(tb, handler, on.Address, on.ReaderOptions(tb, opts...)...)
}

func (on *Route) StartDeliveryReader(tb testing.TB, handler udsipc.DeliveryHandler,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return StartDeliveryReader(tb, handler, on.Address, on.ReaderOptions(tb, opts...)...)
}

// StartWriter returns a Writer that is stopped at the end, and must end well.
func (on *Route) StartWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return StartWriter(tb, on.Address, on.WriterOptions(tb, opts...)...)
}

// NewWriter returns a Writer that is not started, and stopped without patience at the end.
func (on *Route) NewWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return NewWriter(tb, on.Address, on.WriterOptions(tb, opts...)...)
}

func (on *Route) StartedWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w := on.NewWriter(tb, opts...)
	MustStart(tb, w)
	return w
}

// Connect is a dialer: it returns a connection of the transport, without TLS.
func (on *Route) Connect(ctx context.Context) (net.Conn, error) {
	if on.Net != nil {
		conn, err := on.Net.Dial(ctx)
		if on.whole && err == nil {
			conn = wholeConn{conn}
		}
		return conn, err
	}
	network, name := NetworkOf(on.Address)
	conn, err := new(net.Dialer).DialContext(ctx, network, name)
	if on.Wrapped && err == nil {
		conn = WrappedConn{conn}
	}
	return conn, err
}

// ConnectSecurely is a dialer for Writers that are to know nothing of TLS: if the Reader speaks it, the
// connection does already.
func (on *Route) ConnectSecurely(tb testing.TB) func(context.Context) (net.Conn, error) {
	if !on.Secure {
		return on.Connect
	}
	_, config := on.Configs(tb)
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := on.Connect(ctx)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		return secure, secure.HandshakeContext(ctx)
	}
}

// Dial is a writer by hand. It speaks TLS if the Reader does, and can close its sending side.
func (on *Route) Dial(tb testing.TB) net.Conn {
	tb.Helper()
	conn, err := on.ConnectSecurely(tb)(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if wrapped, ok := conn.(WrappedConn); ok {
		conn = wrapped.Conn
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// Listen is a reader by hand. It speaks TLS if the Writer does.
func (on *Route) Listen(tb testing.TB) net.Listener {
	tb.Helper()
	l := MustListen(tb, on.Address)
	if on.Secure {
		config, _ := on.Configs(tb)
		l = tls.NewListener(l, config)
	}
	return l
}

// NetworkOf splits an address into what package net wants.
func NetworkOf(address string) (network, name string) {
	if name, ok := strings.CutPrefix(address, "tcp://"); ok {
		return "tcp", name
	}
	return "unix", strings.TrimPrefix(address, "unix:")
}
