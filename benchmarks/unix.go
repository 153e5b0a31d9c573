// SPDX-License-Identifier: Apache-2.0

package main

// What one writes by hand: frames over a stream socket, one system call each, and datagrams, as
// syslog takes them.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

const maxMessage = 64 << 10

func openUnix(tb testing.TB, receive func([]byte)) (func([]byte) error, func() error) {
	l, err := net.Listen("unix", socketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	consume(tb, client, server, func() error { return readFrames(server, receive) })

	frame := make([]byte, 0, binary.MaxVarintLen64+maxMessage)
	send := func(data []byte) error {
		frame = append(binary.AppendUvarint(frame[:0], uint64(len(data))), data...)
		_, err := client.Write(frame)
		return err
	}
	return send, func() error { return nil }
}

func readFrames(conn io.Reader, receive func([]byte)) error {
	r := bufio.NewReaderSize(conn, maxMessage)
	buf := make([]byte, maxMessage)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		receive(buf[:n])
	}
}

func openUnixgram(tb testing.TB, receive func([]byte)) (func([]byte) error, func() error) {
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketPath(tb), Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	client, err := net.Dial("unixgram", server.LocalAddr().String())
	if err != nil {
		tb.Fatal(err)
	}
	consume(tb, client, server, func() error { return readDatagrams(server, receive) })
	send := func(data []byte) error {
		_, err := client.Write(data)
		return err
	}
	return send, func() error { return nil }
}

func readDatagrams(conn io.Reader, receive func([]byte)) error {
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		receive(buf[:n])
	}
}

// consume runs read until tb is over and both ends are closed.
func consume(tb testing.TB, client, server io.Closer, read func() error) {
	ended := make(chan error, 1)
	go func() { ended <- read() }() // Ends when server is closed.
	tb.Cleanup(func() {
		client.Close()
		server.Close()
		if err := <-ended; err != io.EOF && !errors.Is(err, net.ErrClosed) {
			tb.Errorf("read: %v", err)
		}
	})
}
