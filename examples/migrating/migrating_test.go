// SPDX-License-Identifier: Apache-2.0

// The programs of docs/MIGRATING.md: each does what a user of one of four other libraries would write first.
package migrating_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
)

// place returns a path for a socket, and what removes its directory.
func place() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "migrating")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "app.sock"), func() { os.RemoveAll(dir) }
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// From uds-ipc.
func ExampleReader() {
	path, remove := place()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	reader, err := udsipc.NewReader(func(data []byte) error {
		fmt.Printf("%s\n", data)
		return nil
	}, path, udsipc.WithInactivityTimeout(time.Minute))
	must(err)
	must(reader.Start())

	writer, err := udsipc.NewWriter(path, udsipc.WithMaxBufferedWrites(1000))
	must(err)
	must(writer.Start())
	must(writer.WriteMessage([]byte("hello")))
	must(writer.Stop(ctx))
	must(reader.Stop(ctx))
	received, connections, failed := reader.GetMetrics()
	fmt.Println(received, connections, failed)
	// Output:
	// hello
	// 1 1 0
}

// From golang-ipc.
func ExampleServer_messages() {
	path, remove := place()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	const greeting, answer = 1, 2

	server, err := duplex.NewServer(path, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		fmt.Printf("type %d: %s\n", m.Type, m.Data)
		return s.Send(duplex.Message{Type: answer, Data: []byte("hello, client")})
	})
	must(err)
	must(server.Start())

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())
	must(client.Send(duplex.Message{Type: greeting, Data: []byte("hello, server")}))
	m, err := client.Receive(ctx)
	must(err)
	fmt.Printf("type %d: %s\n", m.Type, m.Data)
	fmt.Println(client.State())
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// type 1: hello, server
	// type 2: hello, client
	// connected
}

// accept has serve have the one connection that comes.
func accept(path string, serve func(conn *udsipc.Conn)) (done chan struct{}) {
	listener, err := udsipc.Listen(path, udsipc.WithSocketMode(0o600))
	must(err)
	done = make(chan struct{})
	go func() { // Ends with the connection.
		defer close(done)
		conn, err := listener.Accept()
		must(err)
		serve(conn)
		must(conn.Close())
		must(listener.Close())
	}()
	return done
}

// From golib's uds: bytes, with the credentials of who sends them.
func ExampleConn_bytes() {
	path, remove := place()
	defer remove()
	done := accept(path, func(conn *udsipc.Conn) {
		if peer := conn.Peer(); peer.Credentials != nil && peer.Credentials.UID != os.Getuid() {
			log.Fatal("who is that?")
		}
		line, err := bufio.NewReader(conn.Stream()).ReadString('\n')
		must(err)
		fmt.Print(line)
	})
	conn, err := udsipc.Dial(context.Background(), path)
	must(err)
	_, err = fmt.Fprintln(conn.Stream(), "one line")
	must(err)
	<-done
	must(conn.Close())
	// Output: one line
}

// From golib's json/stream.
func ExampleConn_json() {
	type event struct{ Name string }
	path, remove := place()
	defer remove()
	events := codec.JSON[event]()
	done := accept(path, func(conn *udsipc.Conn) {
		for e, err := range codec.Messages(conn, events) {
			must(err)
			fmt.Println(e.Name)
		}
	})
	conn, err := udsipc.Dial(context.Background(), path)
	must(err)
	out := codec.NewWriter(conn, events)
	must(out.Write(event{"start"}))
	must(out.Write(event{"stop"}))
	must(conn.Close())
	<-done
	// Output:
	// start
	// stop
}

// From golib's chunk/rpc and json/rpc.
func ExampleClient_calls() {
	type sum struct{ A, B int }
	path, remove := place()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sums, ints := codec.JSON[sum](), codec.JSON[int]()

	server, err := rpc.NewServer(path)
	must(err)
	rpc.Handle(server, "add", sums, ints, func(ctx context.Context, q sum) (int, error) {
		if peer, ok := rpc.PeerFromContext(ctx); !ok || peer.Credentials != nil && peer.Credentials.UID != os.Getuid() {
			return 0, &rpc.Error{Code: rpc.CodePermissionDenied, Message: "not you"}
		}
		return q.A + q.B, nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	n, err := rpc.Call(ctx, client, "add", sums, ints, sum{2, 3})
	fmt.Println(n, err)
	_, err = client.Call(ctx, "subtract", nil)
	fmt.Println(rpc.CodeOf(err))
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// 5 <nil>
	// unknown method
}

// From domainsockets.
func ExampleServer_named() {
	path, remove := place()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	server, err := rpc.NewServer(path)
	must(err)
	server.Handle("greet", func(_ context.Context, name []byte) ([]byte, error) {
		if len(name) == 0 {
			return nil, errors.New("nobody to greet")
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
	// udsipc/rpc: unknown: nobody to greet
}
