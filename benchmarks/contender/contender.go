// SPDX-License-Identifier: Apache-2.0

// Package contender has the library and the systems that it is compared with, each behind the same
// two functions: Listen opens the receiving end of a connection, Dial its sending end. Both ends
// may lie in one process or in two.
//
// The receiving end starts first. It calls receive for each message, from one goroutine at a time.
// A contender runs as its documentation recommends for full speed: one connection, no TLS, and
// bytes instead of objects.
package contender

import (
	"io"
	"path/filepath"
)

// A Contender is one way to send messages from one process to another.
type Contender struct {
	Name string

	// Listen opens the receiving end. The slice that receive gets is valid until receive returns.
	Listen func(end End, receive func(data []byte)) (io.Closer, error)

	// Dial opens the sending end.
	Dial func(end End) (Sender, error)

	// Largest is the size of the largest message in bytes. 0 is no limit.
	Largest int

	// Keeps is set if Send may keep data while 1,024 further messages are sent.
	Keeps bool

	// Unordered is set if messages may be received in another order, unless Flush lies between
	// them.
	Unordered bool

	// NoLone is set if a lone message waits until the next ones have filled a buffer.
	NoLone bool

	// NoLoad is set if the maximum is measured with other system calls than Send makes.
	NoLoad bool

	// Missing is the reason why this build has no such contender, or empty.
	Missing string
}

// Kept is the number of messages that a Contender with Keeps may hold.
const Kept = 1024

// An End is the part of a connection that both processes know.
type End struct {
	Dir  string      // For sockets and files; the two ends have it to themselves.
	Size int         // The size of every message.
	Fail func(error) // Receives errors that no call returns.
}

// A Sender is the sending end of a connection. Its methods are called from one goroutine.
type Sender interface {
	// Send sends a message, or hands it to a queue; it waits while that is full.
	Send(data []byte) error

	// Flush returns when earlier messages have left this process, as far as that can be known.
	Flush() error

	Close() error
}

// A Repeater is a Sender that sends n equal messages with less work than n calls of Send.
type Repeater interface {
	Repeat(data []byte, n int) error
}

// All has each contender once. The library is first.
var All = []Contender{
	{Name: "udsipc", Listen: listenUDSIPC, Dial: dialUDSIPC},
	{Name: "udsipc, acknowledged", Listen: listenUDSIPC, Dial: dialAcknowledged},
	{Name: "raw socket, no frames", Listen: listenRaw, Dial: dialRaw, NoLoad: true},
	{Name: "bufio loop, holds messages", Listen: listenFrames, Dial: dialHold, NoLone: true, NoLoad: true},
	{Name: "bufio loop, background flusher", Listen: listenFrames, Dial: dialPrompt},
	{Name: "one system call a message", Listen: listenFrames, Dial: dialOneCall},
	{Name: "Unix datagrams", Listen: listenDatagrams, Dial: dialDatagrams, Largest: 64 << 10},
	{Name: "gRPC client streaming", Listen: listenGRPC, Dial: dialGRPC, Keeps: true},
	{Name: "NATS core, loopback", Listen: listenNATS, Dial: dialNATS},
	{Name: "net/rpc", Listen: listenNetRPC, Dial: dialNetRPC, Unordered: true},
	zeroMQ,
	{Name: "go-zeromq/zmq4", Listen: listenGoZeroMQ, Dial: dialGoZeroMQ},
	{Name: "mangos", Listen: listenMangos, Dial: dialMangos},
}

// Named returns the contender of that name.
func Named(name string) (Contender, bool) {
	for _, c := range All {
		if c.Name == name {
			return c, true
		}
	}
	return Contender{}, false
}

func (end End) socket() string { return filepath.Join(end.Dir, "s") }

// closers closes in order and returns the first error.
type closers []func() error

func (cs closers) Close() error {
	var first error
	for _, c := range cs {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
