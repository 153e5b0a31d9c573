// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
)

// A question and its answer over one connection.
func ExampleDial() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")

	listener, err := udsipc.Listen(path)
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() { // Ends with the connection.
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		for question, err := range conn.Messages() {
			if err != nil {
				log.Fatal(err)
			}
			if err := conn.WriteMessage(append(question, " Fine."...)); err != nil {
				log.Fatal(err)
			}
		}
	}()

	conn, err := udsipc.Dial(context.Background(), path, udsipc.WithAuthorizer(udsipc.SameUser()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage([]byte("How are you?")); err != nil {
		log.Fatal(err)
	}
	answer, err := conn.ReadMessage()
	fmt.Printf("%s %v\n", answer, err)
	// Output: How are you? Fine. <nil>
}

// A server for many clients: a goroutine for each, until the Listener and the connections are closed.
func ExampleListener() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "time.sock")

	listener, err := udsipc.Listen(path, udsipc.WithAuthorizer(udsipc.SameUser()))
	if err != nil {
		log.Fatal(err)
	}
	var clients sync.WaitGroup
	clients.Go(func() { // Ends with the Listener.
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				log.Fatal(err)
			}
			clients.Go(func() { // Ends with the connection.
				defer conn.Close()
				for request, err := range conn.Messages() {
					if err != nil {
						log.Print(err) // It has the peer: pid, user and group.
						return
					}
					if err := conn.WriteMessage(bytes.ToUpper(request)); err != nil {
						log.Print(err)
					}
				}
			})
		}
	})

	for _, name := range []string{"anna", "bert"} {
		conn, err := udsipc.Dial(context.Background(), path)
		if err != nil {
			log.Fatal(err)
		}
		if err := conn.WriteMessage([]byte(name)); err != nil {
			log.Fatal(err)
		}
		answer, err := conn.ReadMessage()
		fmt.Printf("%s %v\n", answer, err)
		if err := conn.Close(); err != nil {
			log.Fatal(err)
		}
	}
	if err := listener.Close(); err != nil {
		log.Fatal(err)
	}
	clients.Wait()
	// Output:
	// ANNA <nil>
	// BERT <nil>
}

// A read deadline: the peer has nothing to say, and the connection goes on.
func ExampleConn() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")
	listener, err := udsipc.Listen(path)
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	client, err := udsipc.Dial(context.Background(), path)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	if err := client.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		log.Fatal(err)
	}
	_, err = client.ReadMessage()
	fmt.Println("nothing yet:", errors.Is(err, os.ErrDeadlineExceeded))

	if err := server.WriteMessage([]byte("now")); err != nil {
		log.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Time{}); err != nil { // None.
		log.Fatal(err)
	}
	data, err := client.ReadMessage() // Valid until the next call.
	fmt.Printf("%s %v\n", data, err)

	if err := server.Close(); err != nil {
		log.Fatal(err)
	}
	_, err = client.ReadMessage()
	fmt.Println(err)
	// Output:
	// nothing yet: true
	// now <nil>
	// EOF
}

// A connection as a stream of bytes, for what knows nothing of messages.
func ExampleConn_Stream() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "files.sock")
	listener, err := udsipc.Listen(path)
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() { // Ends with the connection.
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		stream := conn.Stream()
		defer stream.Close()
		if _, err := io.Copy(stream, strings.NewReader("a file of any length")); err != nil {
			log.Print(err)
		}
	}()

	conn, err := udsipc.Dial(context.Background(), path)
	if err != nil {
		log.Fatal(err)
	}
	stream := conn.Stream()
	defer stream.Close()
	_, err = io.Copy(os.Stdout, stream)
	fmt.Println("", err)
	// Output: a file of any length <nil>
}

// A client that stays connected over restarts of the server, and is told what the server says.
func ExampleLink() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "news.sock")

	received := make(chan string)
	link, err := udsipc.NewLink(path, func(data []byte) {
		received <- string(data) // data is valid until this function returns.
	}, udsipc.WithMaxBackoff(10*time.Millisecond), udsipc.WithWriterErrorCallback(func(err error, op string) {
		// Nobody listens at first: no news for this example.
	}))
	if err != nil {
		log.Fatal(err)
	}
	if err := link.Start(); err != nil {
		log.Fatal(err)
	}
	if err := link.WriteMessage([]byte("subscribe")); err != nil { // Sent when there is a connection.
		log.Fatal(err)
	}

	listener, err := udsipc.Listen(path) // The server comes later.
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	server, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	request, err := server.ReadMessage()
	fmt.Printf("server: %s %v\n", request, err)
	if err := server.WriteMessage([]byte("rain")); err != nil {
		log.Fatal(err)
	}
	fmt.Println("client:", <-received, link.State())
	if err := link.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// server: subscribe <nil>
	// client: rain connected
}

// A service whose writers do not notice a restart: RestartKillSignal=SIGUSR2 and FileDescriptorStoreMax= in its unit.
func ExampleReader_HandOver() {
	reader, err := udsipc.NewReader(func(data []byte) error {
		_, err := fmt.Printf("%s\n", data)
		return err
	}, "/run/collector/collector.sock")
	if err != nil {
		log.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.Signal(12)) // SIGUSR2
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	if <-signals == syscall.SIGTERM {
		err = reader.Stop(context.Background())
	} else {
		err = reader.HandOver(context.Background())
	}
	if err != nil {
		log.Fatal(err)
	}
}
