// SPDX-License-Identifier: Apache-2.0

package contender

// Unix datagrams, as syslog takes them: the kernel keeps the boundaries of messages.

import (
	"io"
	"net"
)

func listenDatagrams(end End, receive func([]byte)) (io.Closer, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: end.socket(), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() { // Ends when conn is closed.
		defer close(done)
		buf := make([]byte, end.Size)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				if !over(err) {
					end.Fail(err)
				}
				return
			}
			receive(buf[:n])
		}
	}()
	return closers{conn.Close, func() error { <-done; return nil }}, nil
}

func dialDatagrams(end End) (Sender, error) {
	conn, err := net.Dial("unixgram", end.socket())
	return oneWrite{conn}, err
}
