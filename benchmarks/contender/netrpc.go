// SPDX-License-Identifier: Apache-2.0

package contender

// net/rpc: each message is a call without a result. Many calls are in flight, and the server runs
// each in a goroutine of its own.

import (
	"io"
	"net"
	"net/rpc"
	"sync"
)

// Calls in flight: at most netRPCCalls, and few enough to hold netRPCBytes, but at least 4.
const (
	netRPCCalls = 1024
	netRPCBytes = 4 << 20
)

// Sink is a service of net/rpc.
type Sink struct {
	mu      sync.Mutex
	receive func([]byte)
}

// Put receives one message.
func (s *Sink) Put(data *[]byte, _ *struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receive(*data)
	return nil
}

func listenNetRPC(end End, receive func([]byte)) (io.Closer, error) {
	server := rpc.NewServer()
	if err := server.Register(&Sink{receive: receive}); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", end.socket())
	if err != nil {
		return nil, err
	}
	go func() { // Ends when l is closed, and with the client.
		if conn, err := l.Accept(); err == nil {
			server.ServeConn(conn)
		}
	}()
	return l, nil
}

type netRPCSender struct {
	client   *rpc.Client
	done     chan *rpc.Call
	inFlight int
}

func dialNetRPC(end End) (Sender, error) {
	client, err := rpc.Dial("unix", end.socket())
	if err != nil {
		return nil, err
	}
	window := min(netRPCCalls, max(4, netRPCBytes/end.Size))
	return &netRPCSender{client: client, done: make(chan *rpc.Call, window)}, nil
}

func (s *netRPCSender) Send(data []byte) error {
	if s.inFlight == cap(s.done) {
		if err := s.wait(); err != nil {
			return err
		}
	}
	s.inFlight++
	s.client.Go("Sink.Put", &data, &struct{}{}, s.done) // Encodes data before it returns.
	return nil
}

// wait waits for the end of one call.
func (s *netRPCSender) wait() error {
	call := <-s.done
	s.inFlight--
	return call.Error
}

func (s *netRPCSender) Flush() error {
	for s.inFlight > 0 {
		if err := s.wait(); err != nil {
			return err
		}
	}
	return nil
}

func (s *netRPCSender) Close() error { return s.client.Close() }
