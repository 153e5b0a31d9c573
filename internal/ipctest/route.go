// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/udsipc/udsipc"
)

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

// StartBatchReader is StartReader for a BatchHandler.
func (on *Route) StartBatchReader(tb testing.TB, handler udsipc.BatchHandler,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	return StartBatchReader(tb, handler, on.Address, on.ReaderOptions(tb, opts...)...)
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
