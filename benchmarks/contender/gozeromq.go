// SPDX-License-Identifier: Apache-2.0

package contender

// ZeroMQ's protocol in Go: a PUSH and a PULL socket.

import (
	"context"
	"io"

	"github.com/go-zeromq/zmq4"
)

func listenGoZeroMQ(end End, receive func([]byte)) (io.Closer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	pull := zmq4.NewPull(ctx)
	if err := pull.Listen("ipc://" + end.socket()); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() { // Ends when ctx is cancelled.
		defer close(done)
		for {
			msg, err := pull.Recv()
			if ctx.Err() != nil || over(err) {
				return
			}
			if err != nil {
				end.Fail(err)
				return
			}
			receive(msg.Bytes())
		}
	}()
	return closers{func() error { cancel(); return nil },
		func() error { return closeZMTP(pull) }, func() error { <-done; return nil }}, nil
}

type goZeroMQSender struct{ zmq4.Socket }

func dialGoZeroMQ(end End) (Sender, error) {
	push := zmq4.NewPush(context.Background())
	return goZeroMQSender{push}, push.Dial("ipc://" + end.socket())
}

func (s goZeroMQSender) Send(data []byte) error { return s.Socket.Send(zmq4.NewMsg(data)) }
func (goZeroMQSender) Flush() error             { return nil }
func (s goZeroMQSender) Close() error           { return closeZMTP(s.Socket) }

// closeZMTP closes a socket, of which the connection may have ended already.
func closeZMTP(s zmq4.Socket) error {
	if err := s.Close(); !over(err) {
		return err
	}
	return nil
}
