// SPDX-License-Identifier: Apache-2.0

package main

// This file is the receiving side of bench, and how it starts the sending one.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/udsipc/udsipc"
)

// A benchReceiver reads messages until it is closed; close returns their number.
type benchReceiver interface{ close() (int64, error) }

// measure has a process send for --time, and returns the rate in messages per second.
func (f *benchFlags) measure(ctx context.Context, e *env, kind string) (rate float64, err error) {
	address := f.address
	if address == "" {
		dir, err := os.MkdirTemp("", "udsipc")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		address = filepath.Join(dir, "s")
	}
	receiver, err := f.receive(kind, address)
	if err != nil {
		return 0, err
	}
	sent, seconds, err := f.sendFrom(ctx, e, kind, address)
	received, closeErr := receiver.close()
	switch {
	case err != nil:
		return 0, err
	case closeErr != nil:
		return 0, closeErr
	case received != sent:
		return 0, fmt.Errorf("%d of %d messages arrived", received, sent)
	}
	return float64(sent) / seconds, nil
}

// sendFrom runs the process that sends. It writes two numbers: messages, and seconds until all were read.
func (f *benchFlags) sendFrom(ctx context.Context, e *env, kind, address string) (
	sent int64, seconds float64, err error) {
	worker := e.self(ctx, benchWorkerCommand.name, "--size", strconv.FormatUint(uint64(f.size), 10),
		"--producers", strconv.Itoa(f.producers), "--connections", strconv.Itoa(f.connections),
		"--time", f.time.String(), "--address", address, kind)
	output, err := worker.Output()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
			return 0, 0, fmt.Errorf("%s", strings.TrimSpace(string(exit.Stderr)))
		}
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(output), &sent, &seconds); err != nil || seconds <= 0 {
		return 0, 0, fmt.Errorf("the process that sends has written %q", output)
	}
	return sent, seconds, nil
}

// receive begins to receive.
func (f *benchFlags) receive(kind, address string) (benchReceiver, error) {
	if kind == "bare" || kind == "buffer" {
		return receiveBare(address, int64(f.size))
	}
	reader, err := udsipc.NewReader(func([]byte) error { return nil }, address,
		udsipc.WithMaxMessageSize(max(uint64(f.size), defaultMaxMessage)), udsipc.WithMaxConnections(1<<15))
	if err != nil {
		return nil, err
	}
	return readerBench{reader}, reader.Start()
}

// A readerBench is a Reader.
type readerBench struct{ *udsipc.Reader }

func (r readerBench) close() (int64, error) {
	err := r.Close()
	return int64(r.Metrics().Received), err
}

// A bareBench reads and discards.
type bareBench struct {
	listener net.Listener
	size     int64
	done     sync.WaitGroup

	mu    sync.Mutex // Guards the following.
	bytes int64
}

// bareBuffer is the size of a read, that of a Reader.
const bareBuffer = 256 << 10

func receiveBare(address string, size int64) (*bareBench, error) {
	network, name := networkOf(address)
	listener, err := net.Listen(network, name)
	if err != nil {
		return nil, err
	}
	b := &bareBench{listener: listener, size: size}
	b.done.Go(func() { // Ends with the listener.
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.done.Go(func() { b.read(conn) }) // Ends with the connection.
		}
	})
	return b, nil
}

func (b *bareBench) read(conn net.Conn) {
	defer conn.Close() // The sender waits for that.
	buffer := make([]byte, bareBuffer)
	total := int64(0)
	for {
		n, err := conn.Read(buffer)
		if total += int64(n); err != nil {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += total
}

func (b *bareBench) close() (int64, error) {
	err := b.listener.Close()
	b.done.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes / b.size, err
}

// networkOf returns the arguments of net.Dial for an address of the library.
func networkOf(address string) (network, name string) {
	if host, ok := strings.CutPrefix(address, "tcp://"); ok {
		return "tcp", host
	}
	return "unix", strings.TrimPrefix(address, "unix:")
}
