// SPDX-License-Identifier: Apache-2.0

package protobuf_test

import (
	"context"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/udsipc/udsipc/contrib/protobuf"
	"github.com/udsipc/udsipc/rpc"
)

func TestCodec_RoundTrips(t *testing.T) {
	c := protobuf.Codec[*durationpb.Duration]()
	want := &durationpb.Duration{Seconds: 3, Nanos: 4}
	b, err := c.Append([]byte("before"), want)
	if err != nil || string(b[:6]) != "before" {
		t.Fatalf("%q, %v", b, err)
	}
	if got, err := c.Decode(b[6:]); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := c.Decode([]byte{0xff}); err == nil {
		t.Error("nonsense was decoded")
	}
	if b, err := c.Append(nil, nil); err != nil || len(b) != 0 {
		t.Errorf("nil is % x, %v", b, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("an interface is the type of a message")
		}
	}()
	protobuf.Codec[proto.Message]()
}

func TestCall_ReturnsResponse(t *testing.T) {
	address := filepath.Join(t.TempDir(), "s")
	length := rpc.NewMethod("length", protobuf.Codec[*wrapperspb.StringValue](), protobuf.Codec[*wrapperspb.Int64Value]())
	s, err := rpc.NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	length.Handle(s, func(_ context.Context, q *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
		return wrapperspb.Int64(int64(len(q.Value))), nil
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := rpc.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	n, err := length.Call(t.Context(), c, wrapperspb.String("hello"))
	if err != nil || n.Value != 5 {
		t.Errorf("%v, %v", n, err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
