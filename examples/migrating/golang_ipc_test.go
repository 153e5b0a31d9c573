// SPDX-License-Identifier: Apache-2.0

package migrating_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
)

// The types of the messages: the other library's examples use these numbers.
const (
	ping = 1
	pong = 5
)

// A server greets the client that connects, and each waits for messages in a loop:
// example/simple of joe-at-startupmedia's golang-ipc, example/example.go of james-barrow's.
func Example_readAndWrite() {
	ctx, path, remove := place()
	defer remove()

	answered := make(chan string, 1)
	server, err := duplex.NewServer(path, func(_ context.Context, _ *duplex.ServerConn, m duplex.Message) error {
		answered <- fmt.Sprintf("server received: %s - message type: %d", m.Data, m.Type)
		return nil
	})
	must(err)
	server.OnConnect(func(c *duplex.ServerConn) { // There: a message of type -1 with the status "Connected".
		must(c.Send(duplex.Message{Type: ping, Data: []byte("server - PING")}))
	})
	must(server.Start())

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())
	must(client.WaitConnected(ctx)) // There, StartClient waits.
	fmt.Println("client status:", client.State())

	m, err := client.Receive(ctx)
	must(err)
	fmt.Printf("client received: %s - message type: %d\n", m.Data, m.Type)
	must(client.Send(duplex.Message{Type: pong, Data: []byte("client - PONG")}))
	fmt.Println(<-answered)

	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// client status: connected
	// client received: server - PING - message type: 1
	// server received: client - PONG - message type: 5
}

// Both sides read with a time limit and do something else meanwhile: example/timed.
func Example_readTimed() {
	ctx, path, remove := place()
	defer remove()

	// For a server that asks for its messages, the handler puts them into a channel.
	type received struct {
		from *duplex.ServerConn
		m    duplex.Message
	}
	messages := make(chan received)
	server, err := duplex.NewServer(path, func(ctx context.Context, c *duplex.ServerConn, m duplex.Message) error {
		m.Data = slices.Clone(m.Data) // It is valid until the handler returns.
		select {
		case messages <- received{c, m}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	must(err)
	must(server.Start())

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())

	// There: message == ipc.TimeoutMessage.
	timed := func(d time.Duration) (duplex.Message, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return client.Receive(ctx)
	}
	_, err = timed(time.Millisecond)
	fmt.Println("client timed out:", errors.Is(err, context.DeadlineExceeded))

	must(client.Send(duplex.Message{Type: pong, Data: []byte("client - PONG")}))
	select {
	case r := <-messages:
		fmt.Printf("server received: %s\n", r.m.Data)
		must(r.from.Send(duplex.Message{Type: ping, Data: []byte("server - PING")}))
	case <-time.After(10 * time.Second):
		fmt.Println("server timed out")
	}

	m, err := timed(10 * time.Second)
	must(err)
	fmt.Printf("client received: %s\n", m.Data)

	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// client timed out: true
	// server received: client - PONG
	// client received: server - PING
}

// Three clients, each greeted when it connects: example/multiclient. The handlers of different clients
// run at once, so the slowest of them holds up no other, as with ReadTimedFastest.
func Example_multiClient() {
	ctx, path, remove := place()
	defer remove()

	arrived := make(chan string, 3)
	server, err := duplex.NewServer(path, func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error {
		arrived <- fmt.Sprintf("%s from client %d", m.Data, c.Peer().ID) // There: srv.ClientId.
		return nil
	})
	must(err)
	left := make(chan struct{}, 3)
	server.OnConnect(func(c *duplex.ServerConn) {
		must(c.Send(duplex.Message{Type: ping, Data: []byte("PING")}))
		context.AfterFunc(c.Context(), func() { left <- struct{}{} }) // There: the status "Disconnected".
	})
	must(server.Start())

	var clients []*duplex.Client
	for range 3 {
		client, err := duplex.NewClient(path)
		must(err)
		must(client.Start())
		clients = append(clients, client)
	}
	for _, client := range clients {
		m, err := client.Receive(ctx)
		must(err)
		if string(m.Data) == "PING" {
			must(client.Send(duplex.Message{Type: pong, Data: []byte("PONG")}))
		}
	}
	var lines []string
	for range clients {
		lines = append(lines, <-arrived)
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}

	// There: Connections.MapExec, with a Write in its function.
	reached, err := server.Broadcast(duplex.Message{Type: ping, Data: []byte("all of you")})
	fmt.Println("reached", reached, err)
	for _, client := range clients {
		must(client.Stop(ctx))
		<-left
	}
	must(server.Stop(ctx))
	// Output:
	// PONG from client 1
	// PONG from client 2
	// PONG from client 3
	// reached 3 <nil>
}

// The settings of both configurations, over TCP instead of a socket file: there a build with
// -tags network and IPC_NETWORK_HOST, here an address.
func Example_configurations() {
	ctx, _, remove := place()
	defer remove()

	server, err := duplex.NewServer("tcp://127.0.0.1:0", // UnmaskPermissions of a socket file: WithSocketMode(0o666).
		func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error { return c.Send(m) },
		udsipc.WithMaxMessageSize(3<<20), // MaxMsgSize; WithTLS is Encryption.
		udsipc.WithMaxConnections(1),     // MultiClient: false.
	)
	must(err)
	must(server.Start())

	states := make(chan udsipc.State, 10)
	client, err := duplex.NewClient("tcp://"+server.Addr().String(),
		udsipc.WithMaxMessageSize(3<<20),
		udsipc.WithMaxBackoff(time.Second),                                              // RetryTimer.
		udsipc.WithStateCallback(func(state udsipc.State, _ error) { states <- state }), // Messages of type -1.
	)
	must(err)
	must(client.Start())

	connectCtx, cancel := context.WithTimeout(ctx, 5*time.Second) // Timeout.
	defer cancel()
	must(client.WaitConnected(connectCtx))
	fmt.Println(<-states, <-states)
	err = client.Send(duplex.Message{Type: ping, Data: make([]byte, 3<<20)})
	fmt.Println("too large:", errors.Is(err, udsipc.ErrMessageTooLarge)) // The type is a part of the message.
	must(client.Send(duplex.Message{Type: 0, Data: []byte("type 0 is not reserved")}))
	m, err := client.Receive(ctx)
	must(err)
	fmt.Printf("%d: %s\n", m.Type, m.Data)

	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// connecting connected
	// too large: true
	// 0: type 0 is not reserved
}

// A client that starts first, and writes first: there Write waits or fails, here the message waits.
func Example_writeBeforeConnect() {
	ctx, path, remove := place()
	defer remove()

	client, err := duplex.NewClient(path)
	must(err)
	must(client.Start())
	must(client.Send(duplex.Message{Type: pong, Data: []byte("early")}))

	arrived := make(chan string, 1)
	server, err := duplex.NewServer(path, func(_ context.Context, _ *duplex.ServerConn, m duplex.Message) error {
		arrived <- string(m.Data)
		return nil
	})
	must(err)
	must(server.Start())
	fmt.Println(<-arrived)

	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output: early
}
