// SPDX-License-Identifier: Apache-2.0

package contender

// gRPC at its best: one stream, bytes that no codec has to take apart, no TLS, windows wide enough
// never to wait for.

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const grpcWindow = 4 << 20

func listenGRPC(end End, receive func([]byte)) (io.Closer, error) {
	l, err := net.Listen("unix", end.socket())
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(RawCodec{}),
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "benchmarks.Sink",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName:    "Stream",
			ClientStreams: true,
			Handler:       func(_ any, stream grpc.ServerStream) error { return receiveAll(stream, receive) },
		}},
	}, struct{}{})
	go server.Serve(l) // Ends with Stop.
	return closers{func() error { server.Stop(); return nil }}, nil
}

// receiveAll receives messages until the client has sent the last one.
func receiveAll(stream grpc.ServerStream, receive func([]byte)) error {
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

type grpcSender struct {
	client *grpc.ClientConn
	stream grpc.ClientStream
}

func dialGRPC(end End) (Sender, error) {
	client, err := grpc.NewClient("unix:"+end.socket(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(RawCodec{})))
	if err != nil {
		return nil, err
	}
	description := &grpc.StreamDesc{ClientStreams: true}
	stream, err := client.NewStream(context.Background(), description, "/benchmarks.Sink/Stream")
	if err != nil {
		client.Close()
		return nil, err
	}
	return &grpcSender{client, stream}, nil
}

func (s *grpcSender) Send(data []byte) error { return s.stream.SendMsg(&data) }
func (s *grpcSender) Flush() error           { return nil }

// Close waits until the server has received everything.
func (s *grpcSender) Close() error {
	defer s.client.Close()
	if err := s.stream.CloseSend(); err != nil {
		return err
	}
	return s.stream.RecvMsg(new([]byte))
}

// A RawCodec takes *[]byte as it is: sending copies nothing, receiving copies into the slice given.
type RawCodec struct{}

func (RawCodec) Name() string { return "raw" }

func (RawCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*data)}, nil
}

func (RawCodec) Unmarshal(buffers mem.BufferSlice, v any) error {
	data, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal %T: want *[]byte", v)
	}
	n := buffers.Len()
	*data = slices.Grow((*data)[:0], n)[:n]
	buffers.CopyTo(*data)
	return nil
}
