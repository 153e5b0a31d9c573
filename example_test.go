// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
)

// A collector and a program that sends to it, in one process.
func Example() {
	dir, err := os.MkdirTemp("", "udsipc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "app.sock")

	reader, err := udsipc.NewReader(func(data []byte) error {
		fmt.Printf("%s\n", data) // data is valid until this function returns.
		return nil
	}, socket)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}

	writer, err := udsipc.NewWriter(socket)
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"hello", "again"} {
		if err := writer.WriteMessage([]byte(text)); err != nil {
			log.Print(err)
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := writer.Stop(ctx); err != nil { // Sends what is queued.
		log.Print(err)
	}
	if err := reader.Stop(ctx); err != nil { // Handles what was sent.
		log.Print(err)
	}
	// Output:
	// hello
	// again
}

// What happened to each message: the counters are a snapshot of one moment, and expvar publishes
// them, as JSON, in one line.
func ExampleWriter_Metrics() {
	writer, err := udsipc.NewWriter("/run/app/collector.sock", udsipc.WithMaxBufferedWrites(1))
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("collector", expvar.Func(func() any { return writer.Metrics() }))

	fmt.Println(writer.WriteMessage([]byte("waits until there is a reader")))
	fmt.Println(writer.WriteMessage([]byte("one too many")))

	var published udsipc.WriterMetrics
	if err := json.Unmarshal([]byte(expvar.Get("collector").String()), &published); err != nil {
		log.Fatal(err)
	}
	fmt.Println(published.Accepted, "accepted,", published.Queued, "queued,", published.Refused, "refused")
	// Output:
	// <nil>
	// udsipc: queue is full: 1 messages (WithMaxBufferedWrites)
	// 1 accepted, 1 queued, 1 refused
}

// Stop gives up with its context. Nothing is lost without a word: what could not be delivered comes
// back.
func ExampleWriter_Stop() {
	writer, err := udsipc.NewWriter("/nonexistent/collector.sock",
		udsipc.WithUndelivered(func(data []byte) { fmt.Printf("undelivered: %s\n", data) }))
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	if err := writer.WriteMessage([]byte("to nobody")); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = writer.Stop(ctx)
	_, why, _ := strings.Cut(err.Error(), ": ")
	fmt.Println(why)
	fmt.Println(errors.Is(err, udsipc.ErrNoConsumer), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// undelivered: to nobody
	// 1 message was not delivered: nobody listens: connect: no such file or directory; context deadline exceeded
	// true true
}

// A daemon: it handles messages until it is told to end, and then what was sent.
func ExampleReader_Run() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	reader, err := udsipc.NewReader(func(data []byte) error {
		_, err := fmt.Printf("%s\n", data)
		return err
	}, filepath.Join(dir, "collector.sock"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	time.AfterFunc(10*time.Millisecond, stop) // For this example; a daemon has defer stop().
	fmt.Println(reader.Run(ctx))
	// Output: <nil>
}

// A daemon ends when it is told to, or when its Reader cannot go on.
func ExampleReader_Done() {
	reader, err := udsipc.NewDeliveryReader(func(ctx context.Context, d *udsipc.Delivery) error {
		log.Printf("message %d of %v: %s", d.Seq, d.Peer, d.Data)
		return nil
	}, fmt.Sprint("@collector-", os.Getpid()), udsipc.WithReaderErrorCallback(func(err error, op string) {
		log.Printf("%s: %v", op, err)
	}))
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	told, cancel := context.WithCancel(context.Background()) // signal.NotifyContext, in a daemon.
	cancel()
	select {
	case <-told.Done():
	case <-reader.Done():
	}
	fmt.Println(reader.Stop(context.Background()), reader.Err())
	// Output:
	// <nil> <nil>
}
