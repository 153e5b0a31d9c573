// SPDX-License-Identifier: Apache-2.0

package main

// Calls: one request there, one response back, from one caller or from several over one connection.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	stdrpc "net/rpc"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/udsipc/udsipc/benchmarks/contender"
	"github.com/udsipc/udsipc/rpc"
)

// A caller makes calls that are answered with what they send. open returns how to make one; it may
// be called from several goroutines if many.
type caller struct {
	name string
	many bool
	open func(tb testing.TB) (call func(request []byte) (response []byte, err error))
}

var callers = []caller{
	{"udsipc/rpc", true, openCalls},
	{"bare ping-pong, Unix socket", false, openPingPong},
	{"net/rpc, Unix socket", true, openNetRPC},
	{"gRPC unary, Unix socket", true, openUnary},
}

// atOnce makes b.N calls, so many at once.
func atOnce(b *testing.B, c caller, size, goroutines int) {
	call := c.open(b)
	request := bytes.Repeat([]byte{'x'}, size)
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if response, err := call(request); err != nil || len(response) != size {
					b.Errorf("%d bytes, %v", len(response), err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}

func openCalls(tb testing.TB) func([]byte) ([]byte, error) {
	path := socketPath(tb)
	s, err := rpc.NewServer(path)
	if err != nil {
		tb.Fatal(err)
	}
	s.Handle("echo", func(_ context.Context, request []byte) ([]byte, error) { return request, nil })
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	c, err := rpc.NewClient(path)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(c.Stop(context.Background()), s.Stop(context.Background())); err != nil {
			tb.Error(err)
		}
	})
	return func(request []byte) ([]byte, error) { return c.Call(context.Background(), "echo", request) }
}

// openPingPong is the floor: a write and a read at either end, of a size that both know.
func openPingPong(tb testing.TB) func([]byte) ([]byte, error) {
	l, err := net.Listen("unix", socketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close(); server.Close(); l.Close() })
	go func() { // Ends with the connection.
		buf := make([]byte, 1<<20)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	var response []byte
	return func(request []byte) ([]byte, error) {
		if _, err := client.Write(request); err != nil {
			return nil, err
		}
		if cap(response) < len(request) {
			response = make([]byte, len(request))
		}
		response = response[:len(request)]
		_, err := io.ReadFull(client, response)
		return response, err
	}
}

// Echo is a service of net/rpc.
type Echo struct{}

// Bytes returns what it gets.
func (Echo) Bytes(request *[]byte, response *[]byte) error {
	*response = *request
	return nil
}

func openNetRPC(tb testing.TB) func([]byte) ([]byte, error) {
	log.SetOutput(io.Discard) // It reports that the listener was closed.
	l, err := net.Listen("unix", socketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	s := stdrpc.NewServer()
	if err := s.Register(Echo{}); err != nil {
		tb.Fatal(err)
	}
	go s.Accept(l) // Ends with l.
	c, err := stdrpc.Dial("unix", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(); l.Close() })
	return func(request []byte) (response []byte, err error) {
		err = c.Call("Echo.Bytes", &request, &response)
		return response, err
	}
}

func openUnary(tb testing.TB) func([]byte) ([]byte, error) {
	l, err := net.Listen("unix", socketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(contender.RawCodec{}))
	echo := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request []byte
		return &request, decode(&request)
	}
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "benchmarks.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Bytes", Handler: echo}},
	}, struct{}{})
	go s.Serve(l) // Ends with Stop.
	tb.Cleanup(s.Stop)
	c, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(contender.RawCodec{})))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return func(request []byte) (response []byte, err error) {
		err = c.Invoke(context.Background(), "/benchmarks.Echo/Bytes", &request, &response)
		return response, err
	}
}
