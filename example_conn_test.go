// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

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
