// SPDX-License-Identifier: Apache-2.0

package main

// This file is the bridge of a machine, and the check of the stream.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// bridgeEnvironment makes this program a bridge: the address of its Reader.
const bridgeEnvironment = "CLUSTER_EXAMPLE_BRIDGE"

// runBridge publishes what local Writers send, until it is killed.
func runBridge() error {
	nc, err := nats.Connect(os.Getenv(bridgeEnvironment+"_NATS"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	p, err := natsbridge.NewPublisher(js, "EVENTS", "events", natsbridge.WithAckTimeout(2*time.Second),
		natsbridge.WithMaxBackoff(500*time.Millisecond))
	if err != nil {
		return err
	}
	r, err := udsipc.NewBatchReader(p.Handle, os.Getenv(bridgeEnvironment))
	if err != nil {
		return err
	}
	return r.Run(context.Background())
}

// startBridge starts this program as the bridge of a machine.
func (w *world) startBridge(machine int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := exec.Command(self)
	b.Env = append(os.Environ(), bridgeEnvironment+"="+w.address(machine),
		bridgeEnvironment+"_NATS="+w.servers.URL(machine))
	b.Stderr = os.Stderr
	w.bridges[machine] = b
	return b.Start()
}

// check reads the stream from its beginning.
func (w *world) check(ctx context.Context) error {
	info, err := w.stream.Info(ctx)
	if err != nil {
		return err
	}
	consumer, err := w.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	next := make(map[string]int)
	for range info.State.Msgs {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		if text := string(m.Data()); text != fmt.Sprint(next[m.Subject()]) {
			return fmt.Errorf("message %s under %s: want %d", text, m.Subject(), next[m.Subject()])
		}
		next[m.Subject()]++
	}
	for subject, n := range next {
		fmt.Printf("%s: %d messages, each once and in order\n", subject, n)
		if n != w.messages {
			return fmt.Errorf("%s has %d messages: want %d", subject, n, w.messages)
		}
	}
	if len(next) != len(w.writers) {
		return fmt.Errorf("%d writers: want %d", len(next), len(w.writers))
	}
	return nil
}
