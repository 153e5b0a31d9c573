// SPDX-License-Identifier: Apache-2.0

package contender

// The protocol of nanomsg in Go: a PUSH and a PULL socket.

import (
	"errors"
	"io"

	"go.nanomsg.org/mangos/v3"
	"go.nanomsg.org/mangos/v3/protocol/pull"
	"go.nanomsg.org/mangos/v3/protocol/push"
	_ "go.nanomsg.org/mangos/v3/transport/ipc" // Registers the transport.
)

func listenMangos(end End, receive func([]byte)) (io.Closer, error) {
	s, err := pull.NewSocket()
	if err != nil {
		return nil, err
	}
	if err := s.SetOption(mangos.OptionMaxRecvSize, 0); err != nil { // No limit.
		return nil, err
	}
	if err := s.Listen("ipc://" + end.socket()); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() { // Ends when s is closed.
		defer close(done)
		for {
			msg, err := s.RecvMsg()
			if err != nil {
				if !errors.Is(err, mangos.ErrClosed) {
					end.Fail(err)
				}
				return
			}
			receive(msg.Body)
			msg.Free()
		}
	}()
	return closers{s.Close, func() error { <-done; return nil }}, nil
}

type mangosSender struct{ mangos.Socket }

func dialMangos(end End) (Sender, error) {
	s, err := push.NewSocket()
	if err != nil {
		return nil, err
	}
	return mangosSender{s}, s.Dial("ipc://" + end.socket())
}

func (mangosSender) Flush() error { return nil }
