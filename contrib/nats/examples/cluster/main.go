// SPDX-License-Identifier: Apache-2.0

// Two machines send to a cluster of three NATS servers, in one command:
//
//	go run ./examples/cluster
//
// Each "machine" has a bridge, in a process of its own, and two local Writers. In the middle the server
// that leads the stream and a bridge are killed. In the end every message is in the stream exactly once,
// in the order of its Writer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

func main() {
	if os.Getenv(bridgeEnvironment) != "" {
		if err := runBridge(); err != nil {
			log.Fatal(err)
		}
		return
	}
	messages := flag.Int("messages", 25_000, "messages of each writer")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, *messages); err != nil {
		log.Fatal(err)
	}
}

// A world is all that runs.
type world struct {
	dir      string
	messages int // Of each writer.
	servers  *cluster.Cluster
	js       jetstream.JetStream
	stream   jetstream.Stream
	bridges  []*exec.Cmd
	writers  []*udsipc.Writer
}

const (
	machines = 2
	writers  = 2 // Of each machine.
)

func run(ctx context.Context, messages int) (err error) {
	w := &world{messages: messages}
	if w.dir, err = os.MkdirTemp("", "cluster"); err != nil {
		return err
	}
	defer os.RemoveAll(w.dir)
	defer w.close()
	if err := w.start(ctx); err != nil {
		return err
	}
	sent := w.send(ctx)
	if err := w.interrupt(ctx); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	return w.check(ctx)
}

func (w *world) start(ctx context.Context) (err error) {
	if w.servers, err = cluster.Start(3, w.dir, nil); err != nil {
		return err
	}
	if w.js, err = w.servers.Connect(0); err != nil {
		return err
	}
	w.stream, err = w.servers.CreateStream(ctx, w.js, jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true,
	})
	if err != nil {
		return err
	}
	fmt.Println("three servers, a stream with three replicas on disk")
	for m := range machines {
		w.bridges = append(w.bridges, nil)
		if err := w.startBridge(m); err != nil {
			return err
		}
		for range writers {
			writer, err := udsipc.NewWriter(w.address(m), udsipc.WithAcknowledgements(),
				udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBackoff(100*time.Millisecond))
			if err != nil {
				return err
			}
			if err := writer.Start(); err != nil {
				return err
			}
			w.writers = append(w.writers, writer)
		}
	}
	return nil
}

func (w *world) address(machine int) string {
	return filepath.Join(w.dir, fmt.Sprintf("machine%d.sock", machine+1))
}

// send has every writer send its messages. The channel has the end of it.
func (w *world) send(ctx context.Context) <-chan error {
	errs := make([]error, len(w.writers))
	var all sync.WaitGroup
	for i, writer := range w.writers {
		all.Go(func() {
			for n := range w.messages {
				if errs[i] = writer.WriteMessageContext(ctx, fmt.Append(nil, n)); errs[i] != nil {
					return
				}
			}
			errs[i] = writer.Stop(ctx) // It waits for the acknowledgements.
		})
	}
	sent := make(chan error, 1)
	go func() { // Ends when all have sent.
		all.Wait()
		sent <- errors.Join(errs...)
	}()
	return sent
}

// interrupt kills the leader and a bridge in the middle, and starts them again.
func (w *world) interrupt(ctx context.Context) error {
	total := uint64(len(w.writers) * w.messages)
	if err := w.progress(ctx, total/4); err != nil {
		return err
	}
	info, err := w.stream.Info(ctx)
	if err != nil {
		return err
	}
	var leader int
	if _, err := fmt.Sscanf(info.Cluster.Leader, "n%d", &leader); err != nil {
		return err
	}
	fmt.Printf("server n%d, which leads the stream, ends\n", leader)
	w.servers.StopServer(leader - 1)
	if err := w.progress(ctx, total/2); err != nil {
		return err
	}
	fmt.Println("the bridge of machine 1 is killed")
	_ = w.bridges[0].Process.Kill()
	_ = w.bridges[0].Wait()
	if err := w.startBridge(0); err != nil {
		return err
	}
	if err := w.progress(ctx, total*3/4); err != nil {
		return err
	}
	fmt.Printf("server n%d comes back\n", leader)
	if err := w.servers.StartServer(leader - 1); err != nil {
		return err
	}
	return w.progress(ctx, total)
}

// progress shows how many messages are acknowledged, until there are so many.
func (w *world) progress(ctx context.Context, until uint64) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for last := uint64(0); ; {
		sum, queued := uint64(0), uint64(0)
		for _, writer := range w.writers {
			m := writer.Metrics()
			sum, queued = sum+m.Acknowledged, queued+m.Queued
		}
		if sum != last || sum >= until {
			fmt.Printf("  %6d acknowledged, %5d in the queues of the writers\n", sum, queued)
		}
		if last = sum; sum >= until {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) close() {
	for _, b := range w.bridges {
		if b != nil {
			_ = b.Process.Kill()
			_ = b.Wait()
		}
	}
	if w.js != nil {
		w.js.Conn().Close()
	}
	if w.servers != nil {
		w.servers.Close()
	}
}
