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

// TestOf: each function is set, and returns what it says, for a value whose constructor has just returned.
func TestOf(t *testing.T) {
	address := "unix:" + t.TempDir() + "/s"
	link, err := udsipc.NewLink(address, func([]byte) {}, udsipc.WithMaxMessageSize(1000), udsipc.WithOverflow(udsipc.OverflowDropOldest))
	if err != nil {
		t.Fatal(err)
	}
	if inner := seam.OfLink(link); inner.MaxMessageSize() != 1000 || udsipc.OverflowPolicy(inner.Overflow()) != udsipc.OverflowDropOldest {
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
	server, err := duplex.NewServer(address, func(context.Context, *duplex.Session, duplex.Message) error { return nil }, udsipc.WithOverflow(udsipc.OverflowBlock))
	if err != nil {
		t.Fatal(err)
	}
	if inner := seam.OfServer(server).(seam.Server[*duplex.Session]); udsipc.OverflowPolicy(inner.Overflow()) != udsipc.OverflowBlock {
		t.Errorf("a Server with overflow %d", inner.Overflow())
	}
}

// TestHidden: what an interface of this package has, the public type has not.
func TestHidden(t *testing.T) {
	for public, hidden := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[*udsipc.Link]():     reflect.TypeFor[seam.Link](),
		reflect.TypeFor[*udsipc.Listener](): reflect.TypeFor[seam.Listener](),
		reflect.TypeFor[*udsipc.Conn]():     reflect.TypeFor[seam.Conn](),
		reflect.TypeFor[*duplex.Client]():   reflect.TypeFor[seam.Link](),
		reflect.TypeFor[*duplex.Server]():   reflect.TypeFor[seam.Server[any]](),
		reflect.TypeFor[*duplex.Session]():  reflect.TypeFor[seam.Session](),
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
