// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc/duplex"
)

// The types of the messages that the two programs of the examples share.
const (
	Greeting = iota
	Question
	Answer
	News
)

// temporary returns a path for a socket, a context, and a function that removes both.
func temporary() (path string, ctx context.Context, remove func()) {
	dir, err := os.MkdirTemp("", "duplex")
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	return filepath.Join(dir, "app.sock"), ctx, func() {
		cancel()
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A server that answers, and a client that asks.
func Example() {
	path, ctx, remove := temporary()
	defer remove()
	server, err := duplex.NewServer(path, func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error {
		fmt.Printf("the client asks: %s\n", m.Data)
		return c.Send(duplex.Message{Type: Answer, Data: []byte("fine")})
	})
	must(err)
	must(server.Start())

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())
	must(client.Send(duplex.Message{Type: Question, Data: []byte("how are you?")}))
	m, err := client.Receive(ctx)
	fmt.Printf("the server answers: %s %v\n", m.Data, err)
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// the client asks: how are you?
	// the server answers: fine <nil>
}

// The server greets each client: that is the first message that the client receives.
func ExampleServer_OnConnect() {
	path, ctx, remove := temporary()
	defer remove()
	server, err := duplex.NewServer(path, func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil })
	must(err)
	gone := make(chan uint64, 1)
	server.OnConnect(func(c *duplex.ServerConn) {
		_ = c.Send(duplex.Message{Type: Greeting, Data: []byte("welcome")}) // The client may have gone again.
		context.AfterFunc(c.Context(), func() { gone <- c.Peer().ID })
	})
	must(server.Start())

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())
	m, err := client.Receive(ctx)
	fmt.Printf("%s %v\n", m.Data, err)
	must(client.Stop(ctx))
	fmt.Println("client", <-gone, "has gone")
	must(server.Stop(ctx))
	// Output:
	// welcome <nil>
	// client 1 has gone
}

// A message to all clients. This client has a handler instead of Receive.
func ExampleServer_Broadcast() {
	path, ctx, remove := temporary()
	defer remove()
	server, err := duplex.NewServer(path, func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error {
		return c.Send(m)
	})
	must(err)
	must(server.Start())

	received := make(chan string)
	var clients []*duplex.Client
	for range 3 {
		client, err := duplex.NewHandlerClient(path, func(m duplex.Message) { received <- string(m.Data) })
		must(err)
		must(client.Start())
		must(client.Send(duplex.Message{Type: Greeting, Data: []byte("hello")}))
		fmt.Println(<-received) // The server knows this client.
		clients = append(clients, client)
	}
	reached, err := server.Broadcast(duplex.Message{Type: News, Data: []byte("news")})
	fmt.Println(<-received, <-received, <-received, reached, err)
	for _, client := range clients {
		must(client.Stop(ctx))
	}
	must(server.Stop(ctx))
	// Output:
	// hello
	// hello
	// hello
	// news news news 3 <nil>
}
