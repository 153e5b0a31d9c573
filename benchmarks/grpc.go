// SPDX-License-Identifier: Apache-2.0

package main

// gRPC at its best: one stream, bytes that no codec has to take apart, no TLS, windows wide enough
// never to wait for.

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const grpcWindow = 4 << 20

func openGRPC(tb testing.TB, receive func([]byte)) (func([]byte) error, func() error) {
	l, err := net.Listen("unix", socketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}),
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "benchmarks.Sink",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName:    "Stream",
			ClientStreams: true,
			Handler:       func(_ any, stream grpc.ServerStream) error { return sink(stream, receive) },
		}},
	}, struct{}{})
	go server.Serve(l) // Ends with Stop.
	tb.Cleanup(server.Stop)

	client, err := grpc.NewClient("unix:"+l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	stream, err := client.NewStream(tb.Context(), &grpc.StreamDesc{ClientStreams: true}, "/benchmarks.Sink/Stream")
	if err != nil {
		tb.Fatal(err)
	}
	send := func(data []byte) error { return stream.SendMsg(&data) }
	flush := func() error {
		if err := stream.CloseSend(); err != nil {
			return err
		}
		return stream.RecvMsg(new([]byte))
	}
	return send, flush
}

// sink is the consumer: it counts messages until the client is done.
func sink(stream grpc.ServerStream, receive func([]byte)) error {
	var data []byte
	for {
		switch err := stream.RecvMsg(&data); err {
		case nil:
			receive(data)
		case io.EOF:
			return stream.SendMsg(new([]byte))
		default:
			return err
		}
	}
}

// A rawCodec takes *[]byte as it is: sending copies nothing, receiving copies into the slice given.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*data)}, nil
}

func (rawCodec) Unmarshal(buffers mem.BufferSlice, v any) error {
	data, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal %T: want *[]byte", v)
	}
	n := buffers.Len()
	*data = slices.Grow((*data)[:0], n)[:n]
	buffers.CopyTo(*data)
	return nil
}
