// SPDX-License-Identifier: Apache-2.0

//go:build zmq

package contender

// ZeroMQ by its C library, libzmq: a PUSH and a PULL socket, each with its default limit of 1,000
// messages, or fewer where these would hold more than 32 MiB. Build with -tags zmq; Debian's package is libzmq3-dev.

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pebbe/zmq4"
)

var zeroMQ = Contender{Name: "ZeroMQ, libzmq", Listen: listenZeroMQ, Dial: dialZeroMQ}

func openZeroMQ(end End, kind zmq4.Type, open func(*zmq4.Socket, string) error) (*zmq4.Socket, error) {
	s, err := zmq4.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	limit := min(1000, 32<<20/end.Size)
	if err := errors.Join(s.SetLinger(0), s.SetSndhwm(limit), s.SetRcvhwm(limit)); err != nil {
		return nil, err
	}
	return s, open(s, "ipc://"+end.socket())
}

func listenZeroMQ(end End, receive func([]byte)) (io.Closer, error) {
	pull, err := openZeroMQ(end, zmq4.PULL, (*zmq4.Socket).Bind)
	if err != nil {
		return nil, err
	}
	if err := pull.SetRcvtimeo(100 * time.Millisecond); err != nil { // To see closing.
		return nil, err
	}
	var closing atomic.Bool
	done := make(chan struct{})
	go func() { // Ends soon after closing is set.
		defer close(done)
		for !closing.Load() {
			data, err := pull.RecvBytes(0)
			switch zmq4.AsErrno(err) {
			case 0:
				receive(data)
			case zmq4.Errno(syscall.EAGAIN):
			default:
				end.Fail(err)
				return
			}
		}
	}()
	return closers{func() error { closing.Store(true); <-done; return nil }, pull.Close}, nil
}

type zeroMQSender struct{ *zmq4.Socket }

func dialZeroMQ(end End) (Sender, error) {
	push, err := openZeroMQ(end, zmq4.PUSH, (*zmq4.Socket).Connect)
	return zeroMQSender{push}, err
}

func (s zeroMQSender) Send(data []byte) error {
	_, err := s.SendBytes(data, 0)
	return err
}

func (zeroMQSender) Flush() error { return nil }
