// SPDX-License-Identifier: Apache-2.0

package ipctest

// Every test of delivery runs over each transport of the table in this file. A promise that holds
// over only one of them is a bug, or its name contains the transport.

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

// A Transport is a kind of connection between a Writer and a Reader.
type Transport struct {
	Name    string
	Address func(tb testing.TB) string
	Secure  bool // TLS.
	Wrapped bool // Both ends see a net.Conn of a type that the library does not know.
	whole   bool // It has no half-close.
	Spelled bool // It differs from another one only in the form of the address.
}

// Transports are all transports over sockets.
var Transports = []Transport{
	{Name: "unix", Address: SocketPath},
	{Name: "prefixed", Address: func(tb testing.TB) string { return "unix:" + SocketPath(tb) }, Spelled: true},
	{Name: "abstract", Address: AbstractName},
	{Name: "tcp", Address: TcpAddress},
	{Name: "tls over unix", Address: SocketPath, Secure: true},
	{Name: "tls over tcp", Address: TcpAddress, Secure: true},
	{Name: "wrapped", Address: SocketPath, Wrapped: true},
}

// Tcp reports whether the transport uses TCP.
func (tr Transport) Tcp() bool { return strings.Contains(tr.Name, "tcp") }

// Bare reports whether the library has the socket itself.
func (tr Transport) Bare() bool { return !tr.Secure && !tr.Wrapped }

// FlushMeansRead reports whether Flush in plain mode waits until the Reader has read everything.
func (tr Transport) FlushMeansRead() bool {
	return tr.Bare() && !tr.Tcp() && runtime.GOOS == "linux"
}

// TakesWhole reports whether a message of some MiB leaves the Writer whole although the Reader
// rejects it. Over TCP the kernels hold that much, and a TLS record cannot be abandoned.
func (tr Transport) TakesWhole() bool { return tr.Tcp() || tr.Secure }

// OverAddresses runs a test over each transport that needs only an address. It is for tests of
// addresses, and for tests that set TLS or a dialer themselves.
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

// Memories are transports in memory, of a type that the library does not know. They are for tests
// under a fake clock.
var Memories = []Transport{
	{Name: "memory", Wrapped: true},
	{Name: "memory without half-close", Wrapped: true, whole: true},
	{Name: "tls over memory", Wrapped: true, Secure: true},
}

// OverMemory runs a test under a fake clock over each of Memories, plain and acknowledged.
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

// A Route is a transport in one test. Its methods return Readers and Writers for it.
type Route struct {
	Transport
	Address      string
	Net          *SimNet        // nil: sockets.
	Acknowledged bool           // Writers use acknowledgements.
	tls          [2]*tls.Config // Of Readers and Writers, made by Configs.
}

// Configs returns the TLS configurations of Readers and Writers. It makes them for the route,
// because a certificate is only valid by the clock under which it was made.
func (on *Route) Configs(tb testing.TB) (reader, writer *tls.Config) {
	tb.Helper()
	if on.tls[0] == nil {
		on.tls[0], on.tls[1] = NewAuthority(tb).Configs(tb)
	}
	return on.tls[0], on.tls[1]
}

// WrappedConn is a net.Conn of a type that the library does not know.
type WrappedConn struct{ net.Conn }

// CloseWrite closes the sending side. Not every such type has it (OverMemory).
func (c WrappedConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// WrappedListener accepts connections as WrappedConn.
type WrappedListener struct{ net.Listener }

func (l WrappedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return WrappedConn{conn}, nil
}

// wholeConn is a net.Conn without further methods.
type wholeConn struct{ net.Conn }

type wholeListener struct{ net.Listener }

func (l wholeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wholeConn{conn}, nil
}

// ReaderOptions returns the options of a Reader, followed by opts. They may contain an open
// listener.
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

// WriterOptions returns the options of a Writer, followed by opts.
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

// StartReader returns a started Reader that is stopped at the end of the test.
func (on *Route) StartReader(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return StartReader(tb, handler, on.Address, on.ReaderOptions(tb, opts...)...)
}

// StartDeliveryReader is StartReader for a DeliveryHandler.
func (on *Route) StartDeliveryReader(tb testing.TB, handler udsipc.DeliveryHandler,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return StartDeliveryReader(tb, handler, on.Address, on.ReaderOptions(tb, opts...)...)
}

// StartWriter returns a started Writer. At the end of the test it must stop gracefully.
func (on *Route) StartWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return StartWriter(tb, on.Address, on.WriterOptions(tb, opts...)...)
}

// NewWriter returns a Writer that is not started. It is stopped at the end, without a wait for its
// messages.
func (on *Route) NewWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	return NewWriter(tb, on.Address, on.WriterOptions(tb, opts...)...)
}

// StartedWriter returns a started Writer that is stopped at the end, without a wait for its
// messages.
func (on *Route) StartedWriter(tb testing.TB, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w := on.NewWriter(tb, opts...)
	MustStart(tb, w)
	return w
}

// Connect is a dialer. It returns a connection of the transport without TLS.
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

// ConnectSecurely returns a dialer for Writers without WithTLS: its connections use TLS if the
// Reader does.
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

// Dial connects without a Writer. The connection uses TLS if the Reader does, and has CloseWrite.
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

// Listen listens without a Reader. It uses TLS if the Writer does.
func (on *Route) Listen(tb testing.TB) net.Listener {
	tb.Helper()
	l := MustListen(tb, on.Address)
	if on.Secure {
		config, _ := on.Configs(tb)
		l = tls.NewListener(l, config)
	}
	return l
}

// NetworkOf returns the network and the name of an address for package net.
func NetworkOf(address string) (network, name string) {
	if name, ok := strings.CutPrefix(address, "tcp://"); ok {
		return "tcp", name
	}
	return "unix", strings.TrimPrefix(address, "unix:")
}
