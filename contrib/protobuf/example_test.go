// SPDX-License-Identifier: Apache-2.0

package protobuf_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/udsipc/udsipc/contrib/protobuf"
	"github.com/udsipc/udsipc/rpc"
)

// Later is declared once, for the server and the client. With generated code of your own, the types are
// *pb.Request and *pb.Response.
var Later = rpc.NewMethod("later",
	protobuf.Codec[*durationpb.Duration](), protobuf.Codec[*timestamppb.Timestamp]())

func ExampleCodec() {
	dir, err := os.MkdirTemp("", "protobuf")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	server, err := rpc.NewServer(path)
	must(err)
	Later.Handle(server, func(_ context.Context, d *durationpb.Duration) (*timestamppb.Timestamp, error) {
		return timestamppb.New(time.Unix(1_000_000_000, 0).Add(d.AsDuration())), nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	at, err := Later.Call(ctx, client, durationpb.New(time.Hour))
	must(err)
	fmt.Println(at.AsTime().Format(time.RFC3339))
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output: 2001-09-09T02:46:40Z
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
