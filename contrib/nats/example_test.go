// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// exampleServer starts a server of NATS in this process, and returns a directory and the connection. A
// program calls nats.Connect and jetstream.New.
func exampleServer() (dir string, js jetstream.JetStream, end func()) {
	dir, err := os.MkdirTemp("", "nats")
	if err != nil {
		log.Fatal(err)
	}
	c, err := cluster.Start(1, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	if js, err = c.Connect(0); err != nil {
		log.Fatal(err)
	}
	return dir, js, func() {
		js.Conn().Close()
		c.Close()
		_ = os.RemoveAll(dir)
	}
}

func ExamplePublisher() {
	dir, js, end := exampleServer()
	defer end()
	ctx := context.Background()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true,
	})
	if err != nil {
		log.Fatal(err)
	}

	// The bridge of a machine.
	p, err := natsbridge.NewPublisher(js, "EVENTS", "events")
	if err != nil {
		log.Fatal(err)
	}
	address := filepath.Join(dir, "bridge.sock")
	r, err := udsipc.NewBatchReader(p.Handle, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	// A process on the same machine.
	w, err := udsipc.NewWriter(address, udsipc.WithAcknowledgements())
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for _, text := range []string{"one", "two", "three"} {
		if err := w.WriteMessage([]byte(text)); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Flush(ctx); err != nil { // The cluster has them.
		log.Fatal(err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.State.Msgs, "messages")
	// Output: 3 messages
}

func ExampleForwarder() {
	dir, js, end := exampleServer()
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "web7", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		log.Fatal(err)
	}

	// A process on the machine.
	address := filepath.Join(dir, "worker.sock")
	done := make(chan bool)
	r, err := udsipc.NewReader(func(data []byte) error {
		fmt.Printf("%s\n", data)
		close(done)
		return nil // JetStream hears that it is handled.
	}, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	// The bridge of the machine.
	f, err := natsbridge.NewForwarder(js, "JOBS", "web7", address)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()

	if _, err := js.Publish(ctx, "jobs.resize", []byte("picture 7")); err != nil {
		log.Fatal(err)
	}
	<-done
	cancel()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: picture 7
}
