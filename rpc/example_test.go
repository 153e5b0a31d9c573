// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
)

// start starts a server whose handlers prepare has set, and a client. stop stops both.
func start(prepare func(s *rpc.Server)) (ctx context.Context, client *rpc.Client, stop func()) {
	dir, err := os.MkdirTemp("", "rpc")
	must(err)
	path := filepath.Join(dir, "app.sock")
	server, err := rpc.NewServer(path)
	must(err)
	prepare(server)
	must(server.Start())
	client, err = rpc.NewClient(path)
	must(err)
	must(client.Start())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	return ctx, client, func() {
		must(client.Stop(ctx))
		must(server.Stop(ctx))
		cancel()
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A server and a client, with requests and responses of bytes.
func Example() {
	dir, err := os.MkdirTemp("", "rpc")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	server, err := rpc.NewServer(path)
	must(err)
	server.Handle("greet", func(_ context.Context, name []byte) ([]byte, error) {
		if len(name) == 0 {
			return nil, rpc.Errorf(rpc.CodeInvalidArgument, "nobody to greet")
		}
		return append([]byte("hello, "), name...), nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	response, err := client.Call(ctx, "greet", []byte("world"))
	fmt.Printf("%s %v\n", response, err)
	_, err = client.Call(ctx, "greet", nil)
	fmt.Println(err)
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// hello, world <nil>
	// udsipc/rpc: invalid argument: nobody to greet
}

// The types and methods that the two programs of the examples share.
type (
	StatRequest  struct{ Path string }
	StatResponse struct {
		Size int64
		Dir  bool
	}
)

var Stat = rpc.NewMethod("stat", codec.JSON[StatRequest](), codec.JSON[StatResponse]())

// A method is declared once, for the server and the client. A handler's os.ErrNotExist is one at the client, too.
func ExampleMethod() {
	ctx, client, stop := start(func(s *rpc.Server) {
		Stat.Handle(s, func(_ context.Context, q StatRequest) (StatResponse, error) {
			info, err := os.Stat(q.Path)
			if err != nil {
				return StatResponse{}, err
			}
			return StatResponse{Size: info.Size(), Dir: info.IsDir()}, nil
		})
	})
	defer stop()
	found, err := Stat.Call(ctx, client, StatRequest{Path: "/"})
	fmt.Println(found.Dir, err)
	_, err = Stat.Call(ctx, client, StatRequest{Path: "/nonexistent"})
	fmt.Println(errors.Is(err, os.ErrNotExist))
	// Output:
	// true <nil>
	// true
}

// Watch opens with the first number, and sends the following ones.
var Watch = rpc.NewStreamMethod("watch", codec.JSON[int](), codec.None, codec.JSON[int]())

// A stream from the server to the client. It ends when the client closes it.
func ExampleStreamMethod() {
	ctx, client, stop := start(func(s *rpc.Server) {
		Watch.Handle(s, func(_ context.Context, first int, stream *rpc.TypedStream[int, struct{}]) error {
			for n := first; ; n++ {
				if err := stream.Send(n); err != nil {
					return err // The client has closed the stream.
				}
			}
		})
	})
	defer stop()
	stream, err := Watch.Open(ctx, client, 7)
	must(err)
	defer stream.Close()
	for n, err := range stream.Messages() {
		must(err)
		if fmt.Println(n); n == 9 {
			break
		}
	}
	// Output:
	// 7
	// 8
	// 9
}

var Sum = rpc.NewStreamMethod("sum", codec.None, codec.JSON[int](), codec.JSON[int]())

// A stream from the client to the server, which answers at the end.
func ExampleStreamMethod_upload() {
	ctx, client, stop := start(func(s *rpc.Server) {
		Sum.Handle(s, func(_ context.Context, _ struct{}, stream *rpc.TypedStream[int, int]) error {
			sum := 0
			for n, err := range stream.Messages() {
				if err != nil {
					return err
				}
				sum += n
			}
			return stream.Send(sum)
		})
	})
	defer stop()
	stream, err := Sum.Open(ctx, client, struct{}{})
	must(err)
	defer stream.Close()
	for n := range 101 {
		must(stream.Send(n))
	}
	must(stream.CloseSend())
	fmt.Println(stream.Receive())
	// Output: 5050 <nil>
}

type (
	Job    struct{ ID, Number int }
	Result struct{ ID, Square int }
)

// Work is a stream by which the server calls the client.
var Work = rpc.NewStreamMethod("work", codec.JSON[string](), codec.JSON[Result](), codec.JSON[Job]())

// A server does not call its clients by itself. A client that can be called opens a stream, and serves what comes.
func ExampleStreamMethod_callsToClient() {
	results := make(chan Result)
	ctx, client, stop := start(func(s *rpc.Server) {
		Work.Handle(s, func(_ context.Context, worker string, stream *rpc.TypedStream[Job, Result]) error {
			fmt.Println(worker, "is there")
			for id := range 2 {
				if err := stream.Send(Job{ID: id, Number: 10 + id}); err != nil {
					return err
				}
			}
			for result, err := range stream.Messages() {
				if err != nil {
					return err
				}
				results <- result
			}
			return nil
		})
	})
	defer stop()
	stream, err := Work.Open(ctx, client, "worker 1")
	must(err)
	defer stream.Close()
	go func() { // Ends when the stream is closed.
		for job, err := range stream.Messages() {
			if err != nil {
				return
			}
			_ = stream.Send(Result{job.ID, job.Number * job.Number})
		}
	}()
	fmt.Println(<-results, <-results)
	// Output:
	// worker 1 is there
	// {0 100} {1 121}
}

// A stream of bytes, both ways.
func ExampleStream() {
	ctx, client, stop := start(func(s *rpc.Server) {
		s.HandleStream("shout", func(_ context.Context, stream *rpc.Stream) error {
			for line, err := range stream.Messages() {
				if err != nil {
					return err
				}
				loud := strings.ToUpper(string(line)) + string(stream.Request())
				if err := stream.Send([]byte(loud)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	defer stop()
	stream, err := client.OpenStream(ctx, "shout", []byte("!"))
	must(err)
	defer stream.Close()
	must(stream.Send([]byte("hello")))
	must(stream.Send([]byte("there")))
	must(stream.CloseSend())
	for line, err := range stream.Messages() {
		must(err)
		fmt.Printf("%s\n", line)
	}
	// Output:
	// HELLO!
	// THERE!
}

// An interceptor sees each call; here it asks who calls.
func ExampleServer_Use() {
	ctx, client, stop := start(func(s *rpc.Server) {
		s.Use(func(next rpc.Handler) rpc.Handler {
			return func(ctx context.Context, request []byte) ([]byte, error) {
				call, _ := rpc.CallFromContext(ctx)
				peer, _ := rpc.PeerFromContext(ctx)
				if peer.Credentials != nil && peer.Credentials.UID != os.Getuid() {
					return nil, rpc.Errorf(rpc.CodePermissionDenied, "%s is for user %d", call.Method, os.Getuid())
				}
				fmt.Println("call of", call.Method)
				return next(ctx, request)
			}
		})
		s.Handle("ping", func(context.Context, []byte) ([]byte, error) { return []byte("pong"), nil })
	})
	defer stop()
	response, err := client.Call(ctx, "ping", nil)
	fmt.Printf("%s %v\n", response, err)
	// Output:
	// call of ping
	// pong <nil>
}

// OnConnect tells of each client, and the context of its connection of its end.
func ExampleServer_OnConnect() {
	gone := make(chan uint64, 1)
	ctx, client, stop := start(func(s *rpc.Server) {
		s.OnConnect(func(c *duplex.ServerConn) {
			fmt.Println("client", c.Peer().ID, "is there")
			context.AfterFunc(c.Context(), func() { gone <- c.Peer().ID })
		})
		s.Handle("ping", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	})
	_, err := client.Call(ctx, "ping", nil)
	fmt.Println("called,", err)
	stop()
	fmt.Println("client", <-gone, "is gone")
	// Output:
	// client 1 is there
	// called, <nil>
	// client 1 is gone
}

// Without WithFailFast, the call would wait for a server until its context ends.
func ExampleWithFailFast() {
	client, err := rpc.NewClient("/nonexistent/app.sock")
	must(err)
	must(client.Start())
	_, err = client.Call(rpc.WithFailFast(context.Background()), "ping", nil)
	fmt.Println(rpc.CodeOf(err), errors.Is(err, udsipc.ErrNotConnected), errors.Is(err, udsipc.ErrNoConsumer))
	must(client.Stop(context.Background()))
	// Output: unavailable true true
}

func ExampleErrorf() {
	err := rpc.Errorf(rpc.CodeFailedPrecondition, "reading the journal: %w", os.ErrClosed)
	fmt.Println(err)
	fmt.Println(rpc.CodeOf(err), errors.Is(err, os.ErrClosed))
	// Output:
	// udsipc/rpc: failed precondition: reading the journal: file already closed
	// failed precondition true
}
