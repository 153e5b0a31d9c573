// SPDX-License-Identifier: Apache-2.0

package seam_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// TestSeam_Of_ReturnsMethods: each function is set, and its interface is that of the value, once
// the constructor has returned.
func TestSeam_Of_ReturnsMethods(t *testing.T) {
	address := "unix:" + t.TempDir() + "/s"
	drop := udsipc.WithOverflow(udsipc.OverflowDropOldest)
	link, err := udsipc.NewLink(address, func([]byte) {}, udsipc.WithMaxMessageSize(1000), drop)
	if err != nil {
		t.Fatal(err)
	}
	if inner := seam.OfLink(link); inner.MaxMessageSize() != 1000 ||
		udsipc.OverflowPolicy(inner.Overflow()) != udsipc.OverflowDropOldest {
		t.Errorf("a Link with a limit of %d, overflow %d", inner.MaxMessageSize(), inner.Overflow())
	}
	client, err := duplex.NewClient(address, udsipc.WithMaxMessageSize(1001))
	if err != nil {
		t.Fatal(err)
	}
	if inner := seam.OfClient(client); inner.MaxMessageSize() != 1001 {
		t.Errorf("a Client with a limit of %d", inner.MaxMessageSize())
	}
	listener, err := udsipc.NewListener(address, udsipc.WithOverflow(udsipc.OverflowRefuse))
	if err != nil {
		t.Fatal(err)
	}
	if inner := seam.OfListener(listener); udsipc.OverflowPolicy(inner.Overflow()) != udsipc.OverflowRefuse {
		t.Errorf("a Listener with overflow %d", inner.Overflow())
	}
	handler := func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil }
	server, err := duplex.NewServer(address, handler, udsipc.WithOverflow(udsipc.OverflowBlock))
	if err != nil {
		t.Fatal(err)
	}
	inner := seam.OfServer(server).(seam.Server[*duplex.ServerConn])
	if udsipc.OverflowPolicy(inner.Overflow()) != udsipc.OverflowBlock {
		t.Errorf("a Server with overflow %d", inner.Overflow())
	}
}

// TestSeam_OnDisconnect_IsCalled is called once for the end of a connection, and before the state callback.
func TestSeam_OnDisconnect_IsCalled(t *testing.T) {
	address := "unix:" + t.TempDir() + "/s"
	listener, err := udsipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 10)
	link, err := udsipc.NewLink(address, func([]byte) {}, udsipc.WithStateCallback(func(state udsipc.State, _ error) {
		events <- state.String()
	}))
	if err != nil {
		t.Fatal(err)
	}
	seam.OfLink(link).OnDisconnect(func() { events <- "OnDisconnect" })
	if err := link.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := link.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Close(), listener.Close()
	for _, want := range []string{
		"connecting", "connected", "OnDisconnect", udsipc.StateDisconnected.String(), "connecting",
	} {
		if got := <-events; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := link.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSeam_Methods_AreHidden: what an interface of this package has, the public type has not.
func TestSeam_Methods_AreHidden(t *testing.T) {
	for public, hidden := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[*udsipc.Link]():       reflect.TypeFor[seam.Link](),
		reflect.TypeFor[*udsipc.Listener]():   reflect.TypeFor[seam.Listener](),
		reflect.TypeFor[*udsipc.Conn]():       reflect.TypeFor[seam.Conn](),
		reflect.TypeFor[*duplex.Client]():     reflect.TypeFor[seam.Link](),
		reflect.TypeFor[*duplex.Server]():     reflect.TypeFor[seam.Server[any]](),
		reflect.TypeFor[*duplex.ServerConn](): reflect.TypeFor[seam.Session](),
	} {
		for i := range hidden.NumMethod() {
			name := hidden.Method(i).Name
			method, ok := public.MethodByName(name)
			if ok && method.Type.In(1) != reflect.TypeFor[duplex.Message]() { // Client.Send is another one.
				t.Errorf("%v.%s is public", public, name)
			}
		}
	}
}
