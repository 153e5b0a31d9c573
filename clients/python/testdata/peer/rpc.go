// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
)

// serve runs a server of rpc with the methods of the tests.
func serve(s *settings) {
	options := []udsipc.ReaderOption{
		udsipc.WithMaxMessageSize(s.limit), udsipc.WithReaderErrorCallback(func(err error, _ string) { log.Print(err) }),
	}
	if s.config != nil {
		options = append(options, udsipc.WithTLS(s.config))
	}
	server, err := rpc.NewServer(s.address, options...)
	check(err)
	handle(server)
	check(server.Start())
	fmt.Println("ready", server.Addr())
	wait()
	fmt.Println("end", server.Stop(context.Background()))
}

func handle(server *rpc.Server) {
	server.Handle("echo", func(_ context.Context, request []byte) ([]byte, error) { return request, nil })
	server.Handle("fail", func(_ context.Context, request []byte) ([]byte, error) {
		code, _ := binary.Uvarint(request)
		return nil, rpc.Errorf(rpc.Code(code), "failed on purpose")
	})
	server.Handle("sleep", func(_ context.Context, request []byte) ([]byte, error) {
		d, err := time.ParseDuration(string(request))
		if err != nil {
			return nil, err
		}
		time.Sleep(d)
		return []byte("slept"), nil
	})
	// wait tells in the output that its context has ended.
	server.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) {
		fmt.Println("waiting")
		<-ctx.Done()
		fmt.Println(ctx.Err())
		return nil, ctx.Err()
	})
	server.Handle("print", func(_ context.Context, request []byte) ([]byte, error) {
		fmt.Printf("%s\n", request)
		return nil, nil
	})
	server.Handle("big", func(_ context.Context, _ []byte) ([]byte, error) { return make([]byte, 3<<20), nil })
	server.Handle("metadata", func(ctx context.Context, key []byte) ([]byte, error) {
		info, _ := rpc.CallFromContext(ctx)
		value, found := info.Metadata[string(key)]
		if !found {
			return nil, rpc.Errorf(rpc.CodeNotFound, "%q", key)
		}
		return []byte(value), nil
	})
	handleStreams(server)
}

func handleStreams(server *rpc.Server) {
	server.HandleStream("echo-stream", func(_ context.Context, s *rpc.Stream) error {
		for {
			data, err := s.Receive()
			if err == io.EOF {
				return nil
			}
			if err == nil {
				err = s.Send(data)
			}
			if err != nil {
				return err
			}
		}
	})
	// count sends as many numbers as the request says, of a kilobyte each; then it fails if that is odd.
	server.HandleStream("count", func(_ context.Context, s *rpc.Stream) error {
		var n int
		_, _ = fmt.Sscan(string(s.Request()), &n)
		for i := range n {
			if err := s.Send(fmt.Appendf(nil, "%-1000d", i)); err != nil {
				return err
			}
		}
		if n%2 == 1 {
			return rpc.Errorf(rpc.CodeFailedPrecondition, "%d is odd", n)
		}
		return nil
	})
	// wait-stream tells in the output that its context has ended.
	server.HandleStream("wait-stream", func(ctx context.Context, s *rpc.Stream) error {
		if err := s.Send([]byte("begun")); err != nil {
			return err
		}
		<-ctx.Done()
		fmt.Println("stream", ctx.Err())
		return nil
	})
}
