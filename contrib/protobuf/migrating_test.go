// SPDX-License-Identifier: Apache-2.0

package protobuf_test

// The protobuf programs of golib's ipc/uds, for docs/migrating/golib.md. The messages are ready-made ones.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/contrib/protobuf"
	"github.com/udsipc/udsipc/rpc"
)

// quote is the method, which both programs have from one package.
var quote = rpc.NewMethod("quote", protobuf.Codec[*emptypb.Empty](), protobuf.Codec[*wrapperspb.StringValue]())

// A server of quotes and its client: proto/rpc/example.
func Example_protoCalls() {
	dir, err := os.MkdirTemp("", "quotes")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "quotes.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	server, err := rpc.NewServer(path, udsipc.WithSocketMode(0o770))
	must(err)
	quote.Handle(server, func(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error) {
		return wrapperspb.String("Simplicity is complicated."), nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	q, err := quote.Call(ctx, client, &emptypb.Empty{})
	must(err)
	fmt.Println("Quote:", q.Value)
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output: Quote: Simplicity is complicated.
}

// numbers is a stream of values in both directions.
var numbers = rpc.NewStreamMethod("double", codec.None,
	protobuf.Codec[*wrapperspb.Int64Value](), protobuf.Codec[*wrapperspb.Int64Value]())

// Values both ways, of which each side ends its own: proto/stream.
func Example_protoStream() {
	dir, err := os.MkdirTemp("", "numbers")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "numbers.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	server, err := rpc.NewServer(path)
	must(err)
	numbers.Handle(server, func(_ context.Context, _ struct{},
		s *rpc.TypedStream[*wrapperspb.Int64Value, *wrapperspb.Int64Value]) error {
		for n, err := range s.Messages() {
			if err != nil {
				return err
			}
			if err := s.Send(wrapperspb.Int64(2 * n.Value)); err != nil {
				return err
			}
		}
		return nil // Ends the other direction.
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	stream, err := numbers.Open(ctx, client, struct{}{})
	must(err)
	for i := range int64(3) {
		must(stream.Send(wrapperspb.Int64(i)))
	}
	must(stream.CloseSend()) // There: CloseSend(ctx).
	for n, err := range stream.Messages() {
		must(err)
		fmt.Println(n.Value)
	}
	must(stream.Close())
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// 0
	// 2
	// 4
}
