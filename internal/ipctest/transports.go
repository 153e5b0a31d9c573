// SPDX-License-Identifier: Apache-2.0

package ipctest

// Every test of delivery runs over each transport of the table in this file. A promise that holds
// over only one of them is a bug, or its name contains the transport.

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
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

// OverTransports runs a test over each transport. A short run leaves out the two that differ from others
// in their address alone.
func OverTransports(t *testing.T, test func(t *testing.T, on *Route)) {
	for _, tr := range Transports {
		likeAnother := tr.Spelled || testing.Short() && (tr.Name == "abstract" || tr.Name == "tls over unix")
		if !likeAnother {
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

// NetworkOf returns the network and the name of an address for package net.
func NetworkOf(address string) (network, name string) {
	if name, ok := strings.CutPrefix(address, "tcp://"); ok {
		return "tcp", name
	}
	return "unix", strings.TrimPrefix(address, "unix:")
}
