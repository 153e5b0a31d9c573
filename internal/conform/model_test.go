// SPDX-License-Identifier: Apache-2.0

package conform_test

// This file is a small Reader, written for the cases: without a field set it conforms, and each field is a mistake.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// mistakes are what is wrong with a model.
type mistakes struct {
	ackEarly        bool // Acknowledges before it handles.
	ackIncomplete   bool // Acknowledges with the prefix of a message.
	forgetful       bool // Keeps no writer state.
	anyEpoch        bool // Accepts each epoch.
	anyVersion      bool // Does not look at the version.
	unmarked        bool // Redelivered is never set.
	countHeartbeats bool // Takes a heartbeat for an empty message.
	deliverParts    bool // Delivers an incomplete message at the end.
	noReport        bool // Sends the goodbye alone.
	noHeartbeats    bool // Sends no heartbeats.
	shortPrefixes   bool // Rejects prefixes in a longer form.
}

type model struct {
	mistakes
	states sync.Map // wire.WriterID: *modelState
	mu     sync.Mutex
	report io.Writer
}

const modelLimit = 1 << 20

type modelState struct {
	mu      sync.Mutex // Held by the connection that handles messages of the writer.
	epoch   uint64
	handled uint64
	conn    net.Conn
	newest  sync.Mutex // Guards epoch and conn.
}

func (m *model) serve(listener net.Listener, report io.Writer) {
	m.report = report
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer conn.Close()
			c := &modelConn{model: m, conn: conn}
			c.run()
		})
	}
}

func (m *model) handle(data []byte, redelivered bool) {
	nap(data)
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = io.WriteString(m.report, line(data, redelivered && !m.unmarked))
}

type modelConn struct {
	*model
	conn  net.Conn
	in    []byte
	count uint64
}

func (c *modelConn) more() error {
	b := make([]byte, 64<<10)
	n, err := c.conn.Read(b)
	c.in = append(c.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

func (c *modelConn) write(b []byte) { _, _ = c.conn.Write(b) }

func (c *modelConn) run() {
	for len(c.in) < 12 && wire.HasPreface(c.in) {
		if err := c.more(); err != nil {
			c.end(wire.CloseOrderly)
			return
		}
	}
	if wire.HasPreface(c.in) {
		c.session()
		return
	}
	c.end(c.plain())
}

func (c *modelConn) end(reason wire.CloseReason) {
	if c.noReport {
		c.write(wire.Goodbye)
		return
	}
	r := wire.CloseReport{Reason: reason, FirstUnread: c.count + 1, Limit: modelLimit}
	c.write(append(bytes.Clone(wire.Goodbye), r.Append(nil)...))
}

// next returns the next message; data is nil for a heartbeat of a session.
func (c *modelConn) next(session bool) (data []byte, reason wire.CloseReason, err error) {
	for {
		length, size, err := wire.ParsePrefix(c.in)
		switch {
		case err != nil, c.shortPrefixes && size > 1 && c.in[size-1] == 0:
			return nil, wire.CloseMalformed, errors.New("malformed")
		case size > 0 && length > modelLimit:
			return nil, wire.CloseTooLarge, errors.New("too large")
		case size > 0 && session && bytes.HasPrefix(c.in, wire.Heartbeat) && !c.countHeartbeats:
			c.in = c.in[size:]
			return nil, 0, nil
		case size > 0 && uint64(len(c.in)-size) >= length:
			data := bytes.Clone(c.in[size : size+int(length)])
			c.in = c.in[size+int(length):]
			return append([]byte{}, data...), 0, nil
		case size > 0 && session && c.ackIncomplete:
			c.write(wire.AppendPrefix(nil, int(c.count)+1))
		}
		if err := c.more(); err != nil {
			if c.deliverParts && size > 0 && len(c.in) > size {
				c.count++
				c.handle(c.in[size:], false)
			}
			return nil, wire.CloseOrderly, err
		}
	}
}

func (c *modelConn) plain() wire.CloseReason {
	for {
		data, reason, err := c.next(false)
		if err != nil {
			return reason
		}
		c.count++
		c.handle(data, false)
	}
}

func (c *modelConn) hello() (h wire.Hello, ok bool) {
	for {
		in := bytes.Clone(c.in)
		if c.anyVersion && len(in) > 13 {
			in[13] = 1
		}
		h, size, err := wire.ParseHello(in)
		if errors.Is(err, wire.ErrVersion) {
			c.write(wire.Welcome{Status: wire.StatusVersion}.Append(nil))
		}
		if err != nil || size > 0 {
			c.in = c.in[size:]
			return h, err == nil
		}
		if c.more() != nil {
			return h, false
		}
	}
}

func (c *modelConn) session() {
	h, ok := c.hello()
	if !ok {
		return
	}
	found, known := c.states.LoadOrStore(h.Writer, &modelState{})
	state := found.(*modelState)
	state.newest.Lock()
	if known && h.Epoch <= state.epoch && !c.anyEpoch {
		state.newest.Unlock()
		c.write(wire.Welcome{Status: wire.StatusOldEpoch}.Append(nil))
		return
	}
	if state.conn != nil {
		state.conn.Close()
	}
	state.conn, state.epoch = c.conn, h.Epoch
	state.newest.Unlock()
	state.mu.Lock()
	defer state.mu.Unlock()
	if c.forgetful {
		state.handled = 0
	}
	state.handled = max(state.handled, h.FirstSeq-1)
	repeats := h.LastSentSeq
	if known {
		repeats = 0
	}
	c.write(wire.Welcome{Handled: state.handled, Limit: modelLimit}.Append(nil))
	if h.HeartbeatTimeout > 0 && !c.noHeartbeats {
		defer c.heartbeats(h.HeartbeatTimeout / wire.HeartbeatsPerTimeout)()
	}
	c.messages(state, repeats)
}

// heartbeats sends heartbeats until stop is called. The case for them sends no messages.
func (c *modelConn) heartbeats(interval time.Duration) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				c.write(wire.Heartbeat)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (c *modelConn) messages(state *modelState, repeats uint64) {
	for {
		c.count = state.handled
		data, _, err := c.next(true)
		if err != nil {
			return
		}
		if data == nil {
			continue
		}
		state.newest.Lock()
		fenced := state.conn != c.conn
		state.newest.Unlock()
		if fenced {
			return
		}
		ack := wire.AppendPrefix(nil, int(state.handled)+1)
		if c.ackEarly {
			c.write(ack)
		}
		c.handle(data, state.handled+1 <= repeats)
		state.handled++
		if !c.ackEarly {
			c.write(ack)
		}
	}
}
