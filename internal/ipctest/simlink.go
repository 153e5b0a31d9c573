// SPDX-License-Identifier: Apache-2.0

package ipctest

// This file has the connections of a SimNet.

import (
	"cmp"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A SimLink is a connection. Ends[0] is the writer's end; Ways[0] goes from there to Ends[1].
type SimLink struct {
	net     *SimNet
	Mu      sync.Mutex
	changed chan struct{} // Closed and replaced whenever anything changes.
	Ends    [2]*simEnd
	Ways    [2]simWay
	broken  bool
}

// A simWay is one direction of a connection.
type simWay struct {
	under   []byte // Bytes in flight.
	room    int    // The limit of bytes in flight.
	Held    bool   // Neither bytes nor the end arrive.
	chunk   int    // The limit of one read; 0: none.
	left    int    // The connection breaks after this many more bytes; -1: never.
	deliver bool   // The bytes in flight arrive before the break.
}

type simEnd struct {
	link            *SimLink
	index           int
	readAt, writeAt time.Time
	Closed, shut    bool // shut: its sending side is closed.
}

// NewSimLink returns a connection of n.
func NewSimLink(n *SimNet) *SimLink {
	l := &SimLink{net: n, changed: make(chan struct{})}
	for i := range l.Ends {
		l.Ends[i] = &simEnd{link: l, index: i}
		l.Ways[i].left, l.Ways[i].room = -1, cmp.Or(n.Capacity, SimCapacity)
	}
	return l
}

func (l *SimLink) change(change func()) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *SimLink) over() bool {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	return l.Ends[0].Closed && l.Ends[1].Closed
}

// Cut breaks the connection. Bytes in flight are lost.
func (l *SimLink) Cut() {
	l.change(func() {
		l.broken = true
		l.Ways[0].under, l.Ways[1].under = nil, nil
	})
}

// Die closes the reader's end with unread bytes, as the system does for a killed process. Without
// Resets, the writer sees EOF.
func (l *SimLink) Die() { _ = l.Ends[1].Close() }

// CutAfter breaks the connection after this many more bytes in one direction. With deliver, the
// bytes in flight arrive first.
func (l *SimLink) CutAfter(way, bytes int, deliver bool) {
	l.change(func() { l.Ways[way].left, l.Ways[way].deliver = bytes, deliver })
}

// Hold delays the bytes of one direction while on is true.
func (l *SimLink) Hold(way int, on bool) { l.change(func() { l.Ways[way].Held = on }) }

func (l *SimLink) Chunk(way, bytes int) { l.change(func() { l.Ways[way].chunk = bytes }) }

func (l *SimLink) Room(way, bytes int) { l.change(func() { l.Ways[way].room = bytes }) }

// await waits for a change, at most until the deadline. l.Mu is held.
func (l *SimLink) await(deadline time.Time) {
	changed := l.changed
	l.Mu.Unlock()
	defer l.Mu.Lock()
	if deadline.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func (e *simEnd) Read(b []byte) (int, error) {
	l := e.link
	l.net.pace.step()
	l.Mu.Lock()
	defer l.Mu.Unlock()
	way, peer := &l.Ways[1-e.index], l.Ends[1-e.index]
	for {
		switch {
		case e.Closed:
			return 0, net.ErrClosed
		case passed(e.readAt):
			return 0, os.ErrDeadlineExceeded
		case len(way.under) > 0 && (!way.Held || l.broken):
			n := len(way.under)
			if way.chunk > 0 {
				n = min(n, way.chunk)
			}
			n = copy(b, way.under[:n])
			way.under = way.under[n:]
			close(l.changed)
			l.changed = make(chan struct{})
			return n, nil
		case l.broken:
			return 0, syscall.ECONNRESET
		case !way.Held && (peer.Closed || peer.shut):
			return 0, io.EOF
		}
		l.await(e.readAt)
	}
}

func (e *simEnd) Write(b []byte) (total int, err error) {
	l := e.link
	l.net.pace.step()
	l.Mu.Lock()
	defer l.Mu.Unlock()
	way := &l.Ways[e.index]
	for {
		switch {
		case e.Closed:
			return total, net.ErrClosed
		case passed(e.writeAt):
			return total, os.ErrDeadlineExceeded
		case l.broken, e.shut, l.Ends[1-e.index].Closed:
			return total, syscall.EPIPE
		case len(b) == 0:
			return total, nil
		}
		n := min(len(b), max(0, way.room-len(way.under)))
		if way.left >= 0 {
			n = min(n, way.left)
			way.left -= n
		}
		way.under = append(way.under, b[:n]...)
		total += n
		b = b[n:]
		if way.left == 0 {
			l.breakLocked(e.index)
		} else if n == 0 {
			l.await(e.writeAt)
			continue
		}
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// breakLocked breaks the connection at the byte that CutAfter chose.
func (l *SimLink) breakLocked(way int) {
	l.broken = true
	l.Ways[1-way].under = nil
	if !l.Ways[way].deliver {
		l.Ways[way].under = nil
	}
}

func (e *simEnd) Close() error {
	l := e.link
	l.change(func() {
		way := &l.Ways[1-e.index]
		if !e.Closed && e.link.net.Resets && len(way.under) > 0 {
			l.broken = true
		}
		e.Closed, way.under = true, nil
	})
	return nil
}

func (e *simEnd) CloseWrite() error {
	e.link.change(func() { e.shut = true })
	return nil
}

func (e *simEnd) LocalAddr() net.Addr { return simAddr }

func (e *simEnd) RemoteAddr() net.Addr { return simAddr }

func (e *simEnd) SetDeadline(t time.Time) error {
	e.link.change(func() { e.readAt, e.writeAt = t, t })
	return nil
}

func (e *simEnd) SetReadDeadline(t time.Time) error {
	e.link.change(func() { e.readAt = t })
	return nil
}

func (e *simEnd) SetWriteDeadline(t time.Time) error {
	e.link.change(func() { e.writeAt = t })
	return nil
}
