// SPDX-License-Identifier: Apache-2.0

package main

// This file is the sending side of bench, in a process of its own.

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
)

var benchWorkerCommand = command{
	name:     "bench-worker",
	operands: "KIND",
	hidden:   true,
	setup: func(flags *flag.FlagSet) runner {
		f := &benchFlags{}
		f.define(flags)
		return f.work
	},
}

// A benchSender sends messages; several goroutines may. finish returns when all are read.
type benchSender struct {
	send   func(message []byte) error
	finish func() error
}

// work sends for the time, and writes how many messages in how many seconds.
func (f *benchFlags) work(ctx context.Context, e *env) int {
	var senders []benchSender
	for range f.connections {
		sender, err := f.newSender(ctx, e.args[0])
		if err != nil {
			return e.fail(err)
		}
		senders = append(senders, sender)
	}
	var over atomic.Bool
	time.AfterFunc(f.time, func() { over.Store(true) })
	began := time.Now()
	sent, err := f.produce(senders, &over)
	for _, s := range senders {
		err = errors.Join(err, s.finish())
	}
	if err != nil {
		return e.fail(err)
	}
	fmt.Fprintln(e.stdout, sent, time.Since(began).Seconds())
	return exitOK
}

// produce has the goroutines send until the time is over.
func (f *benchFlags) produce(senders []benchSender, over *atomic.Bool) (uint64, error) {
	var all sync.WaitGroup
	var sent atomic.Uint64
	failed := make(chan error, len(senders)*f.producers)
	for _, s := range senders {
		for range f.producers {
			all.Go(func() {
				message := make([]byte, f.size)
				n := uint64(0)
				for ; !over.Load(); n++ {
					if err := s.send(message); err != nil {
						failed <- err
						break
					}
				}
				sent.Add(n)
			})
		}
	}
	all.Wait()
	close(failed)
	return sent.Load(), <-failed
}

// newSender connects.
func (f *benchFlags) newSender(ctx context.Context, kind string) (benchSender, error) {
	if kind == "bare" || kind == "buffer" {
		return f.bareSender(kind)
	}
	options := []udsipc.WriterOption{
		udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxMessageSize(max(uint64(f.size), defaultMaxMessage)),
		udsipc.WithMaxBufferedBytes(max(4*uint64(f.size), 64<<20)),
	}
	if kind == "ack" {
		options = append(options, udsipc.WithAcknowledgements())
	}
	w, err := udsipc.NewWriter(f.address, options...)
	if err != nil {
		return benchSender{}, err
	}
	if err := w.Start(); err != nil {
		return benchSender{}, err
	}
	return benchSender{w.WriteMessage, func() error { return w.Stop(ctx) }}, w.WaitConnected(ctx)
}

// bareSender returns a sender without the library. Its producers share a lock.
func (f *benchFlags) bareSender(kind string) (benchSender, error) {
	network, name := networkOf(f.address)
	conn, err := net.Dial(network, name)
	if err != nil {
		return benchSender{}, err
	}
	to, flush := io.Writer(conn), func() error { return nil }
	if kind == "buffer" {
		buffer := bufio.NewWriterSize(conn, inputChunk)
		to, flush = buffer, buffer.Flush
	}
	var mu sync.Mutex // Guards to.
	send := func(message []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := to.Write(message)
		return err
	}
	finish := func() error {
		err := flush()
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			err = errors.Join(err, half.CloseWrite())
		}
		_, readErr := conn.Read(make([]byte, 1)) // The end: all is read.
		if readErr != io.EOF {
			err = errors.Join(err, readErr)
		}
		return errors.Join(err, conn.Close())
	}
	return benchSender{send, finish}, nil
}
