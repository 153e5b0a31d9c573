// SPDX-License-Identifier: Apache-2.0

package contender

// The same frames as the library's, over a stream socket, by loops that one writes by hand. They
// differ in the moment in which they give a message to the kernel: when a buffer is full, when a
// goroutine in the background comes to it, or at once.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// bufferSize is the best size for bufio over a Unix socket.
const bufferSize = 64 << 10

func listenFrames(end End, receive func([]byte)) (io.Closer, error) {
	l, err := net.Listen("unix", end.socket())
	if err != nil {
		return nil, err
	}
	return serve(end, l, func(conn io.Reader) error { return readFrames(conn, end.Size, receive) })
}

func readFrames(conn io.Reader, size int, receive func([]byte)) error {
	r := bufio.NewReaderSize(conn, bufferSize)
	buf := make([]byte, size)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if n > uint64(size) {
			return io.ErrShortBuffer
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		receive(buf[:n])
	}
}

// serve accepts one connection and reads it to its end.
func serve(end End, l net.Listener, read func(io.Reader) error) (io.Closer, error) {
	var mu sync.Mutex
	var accepted net.Conn
	done := make(chan struct{})
	go func() { // Ends when l or the connection is closed.
		defer close(done)
		conn, err := l.Accept()
		if err == nil {
			mu.Lock()
			accepted = conn
			mu.Unlock()
			err = read(conn)
		}
		if !over(err) {
			end.Fail(err)
		}
	}()
	return closers{l.Close, func() error {
		mu.Lock()
		defer mu.Unlock()
		if accepted != nil {
			accepted.Close()
		}
		return nil
	}, func() error { <-done; return nil }}, nil
}

// over reports whether err tells that one of the two ends has closed the connection.
func over(err error) bool { return err == io.EOF || errors.Is(err, net.ErrClosed) }

// A hold is a bufio.Writer and nothing else.
type hold struct {
	conn net.Conn
	w    *bufio.Writer
}

func dialHold(end End) (Sender, error) {
	conn, err := net.Dial("unix", end.socket())
	if err != nil {
		return nil, err
	}
	return &hold{conn, bufio.NewWriterSize(conn, bufferSize)}, nil
}

func (h *hold) Send(data []byte) error { return writeFrame(h.w, data) }
func (h *hold) Flush() error           { return h.w.Flush() }
func (h *hold) Close() error           { return h.conn.Close() }

func writeFrame(w *bufio.Writer, data []byte) error {
	prefix := w.AvailableBuffer()
	if cap(prefix) < binary.MaxVarintLen64 {
		prefix = make([]byte, 0, binary.MaxVarintLen64)
	}
	w.Write(binary.AppendUvarint(prefix, uint64(len(data)))) // Its error comes back from the next write.
	_, err := w.Write(data)
	return err
}

// A prompt is a bufio.Writer that a goroutine flushes as soon as it can.
type prompt struct {
	conn  net.Conn
	dirty chan struct{}
	ended chan struct{}

	mu sync.Mutex
	w  *bufio.Writer // Guarded by mu.
}

func dialPrompt(end End) (Sender, error) {
	conn, err := net.Dial("unix", end.socket())
	if err != nil {
		return nil, err
	}
	p := &prompt{conn: conn, dirty: make(chan struct{}, 1), ended: make(chan struct{})}
	p.w = bufio.NewWriterSize(conn, bufferSize)
	go p.flusher() // Ends with Close.
	return p, nil
}

func (p *prompt) flusher() {
	defer close(p.ended)
	for range p.dirty {
		p.Flush() // Its error comes back from the next Send.
	}
}

func (p *prompt) Send(data []byte) error {
	p.mu.Lock()
	err := writeFrame(p.w, data)
	p.mu.Unlock()
	select {
	case p.dirty <- struct{}{}:
	default:
	}
	return err
}

func (p *prompt) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Flush()
}

func (p *prompt) Close() error {
	close(p.dirty)
	<-p.ended
	return p.conn.Close()
}

// An oneCall makes a system call for each message.
type oneCall struct {
	conn  net.Conn
	frame []byte
}

func dialOneCall(end End) (Sender, error) {
	conn, err := net.Dial("unix", end.socket())
	return &oneCall{conn, make([]byte, 0, binary.MaxVarintLen64+end.Size)}, err
}

func (o *oneCall) Send(data []byte) error {
	o.frame = append(binary.AppendUvarint(o.frame[:0], uint64(len(data))), data...)
	_, err := o.conn.Write(o.frame)
	return err
}

func (o *oneCall) Flush() error { return nil }
func (o *oneCall) Close() error { return o.conn.Close() }
