// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"cmp"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A simNet is a network in memory that does what real ones do rarely: its connections break after any
// byte, stall, and deliver late. It works under a fake clock.
type simNet struct {
	mu         sync.Mutex
	listener   *simListener
	refusing   bool
	holding    bool
	capacity   int  // Of each direction of a connection; 0 for simCapacity.
	resets     bool // A connection that is closed with bytes unread ends with a reset, as a socket's does.
	patient    bool // A listener that is closed still hands out its backlog.
	dials      int
	pace       pace
	breakFirst func(*simLink) // Prepares the first connection.
	links      []*simLink
}

func (n *simNet) listen() *simListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = &simListener{net: n, changed: make(chan struct{})}
	return n.listener
}

// unlisten has nobody reach the listener any more.
func (n *simNet) unlisten() {
	n.mu.Lock()
	l := n.listener
	n.listener = nil
	n.mu.Unlock()
	if l != nil {
		_ = l.Close() // It has no errors.
	}
}

func (n *simNet) refuse(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusing = on
}

// hold keeps what writers say on new connections from arriving, the first byte included.
func (n *simNet) hold(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holding = on
}

// dialed is how often somebody has dialed.
func (n *simNet) dialed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// live returns the connections that are not over at both ends, the oldest first.
func (n *simNet) live() []*simLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = slices.DeleteFunc(n.links, (*simLink).over)
	return slices.Clone(n.links)
}

// dial is a dialer for WithDialer.
func (n *simNet) dial(context.Context) (net.Conn, error) {
	n.mu.Lock()
	l := n.listener
	n.dials++
	refused := n.refusing || l == nil
	holding := n.holding
	n.mu.Unlock()
	if refused || !l.offer() {
		return nil, syscall.ECONNREFUSED
	}
	link := newSimLink(n)
	link.ways[0].held = holding
	if prepare := n.breakFirst; prepare != nil {
		n.breakFirst = nil
		prepare(link)
	}
	n.mu.Lock()
	n.links = append(n.links, link)
	n.mu.Unlock()
	if !l.queue(link) {
		return nil, syscall.ECONNREFUSED
	}
	return link.ends[0], nil
}

// A simListener has a backlog without a bound.
type simListener struct {
	net     *simNet
	mu      sync.Mutex
	changed chan struct{}
	backlog []*simLink
	closed  bool
}

func (l *simListener) offer() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

func (l *simListener) queue(link *simLink) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.backlog = append(l.backlog, link)
	l.wakeLocked()
	return true
}

func (l *simListener) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *simListener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		closed, changed := l.closed, l.changed
		if len(l.backlog) > 0 {
			link := l.backlog[0]
			l.backlog = l.backlog[1:]
			l.mu.Unlock()
			return link.ends[1], nil
		}
		l.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		<-changed
	}
}

func (l *simListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.wakeLocked()
	}
	if l.net.patient {
		return nil
	}
	for _, link := range l.backlog {
		link.cut()
	}
	l.backlog = nil
	return nil
}

func (l *simListener) Addr() net.Addr { return simAddr }

var simAddr = &net.UnixAddr{Name: "memory", Net: "unix"}

// simCapacity is how many bytes may be under way in one direction.
const simCapacity = 4 << 10

// A pace notices a loop that does not end: too many operations at one moment of the fake clock.
type pace struct {
	mu    sync.Mutex
	at    time.Time
	count int
}

// maxPace is more than any schedule needs: its messages take some thousand reads and writes.
const maxPace = 2_000_000

func (p *pace) step() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Equal(p.at) {
		p.at, p.count = now, 0
	}
	if p.count++; p.count > maxPace {
		panic("a busy loop: two million reads and writes at one moment of the fake clock")
	}
}

// A simLink is a connection. ends[0] is the writer's; ways[0] goes from there to ends[1].
type simLink struct {
	net     *simNet
	mu      sync.Mutex
	changed chan struct{} // Closed and replaced whenever anything changes.
	ends    [2]*simEnd
	ways    [2]simWay
	broken  bool
}

// A simWay is one direction.
type simWay struct {
	under   []byte // Bytes under way.
	room    int    // No more than so many are.
	held    bool   // They do not arrive, nor does the end of them.
	chunk   int    // One read returns no more; 0 for any.
	left    int    // After so many more bytes the connection breaks; -1 for never.
	deliver bool   // What was under way by then arrives before that.
}

type simEnd struct {
	link            *simLink
	index           int
	readAt, writeAt time.Time
	closed, shut    bool // shut: it writes no more.
}

func newSimLink(n *simNet) *simLink {
	l := &simLink{net: n, changed: make(chan struct{})}
	for i := range l.ends {
		l.ends[i] = &simEnd{link: l, index: i}
		l.ways[i].left, l.ways[i].room = -1, cmp.Or(n.capacity, simCapacity)
	}
	return l
}

func (l *simLink) change(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *simLink) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends[0].closed && l.ends[1].closed
}

// cut breaks the connection and loses what is under way.
func (l *simLink) cut() {
	l.change(func() {
		l.broken = true
		l.ways[0].under, l.ways[1].under = nil, nil
	})
}

// die closes the reader's end with all that it has not read, as a system does for a process that is killed. Where that
// makes no reset, the writer sees an end of file.
func (l *simLink) die() { _ = l.ends[1].Close() }

// cutAfter breaks the connection after so many more bytes in one direction.
func (l *simLink) cutAfter(way, bytes int, deliver bool) {
	l.change(func() { l.ways[way].left, l.ways[way].deliver = bytes, deliver })
}

func (l *simLink) hold(way int, on bool) { l.change(func() { l.ways[way].held = on }) }
func (l *simLink) chunk(way, bytes int)  { l.change(func() { l.ways[way].chunk = bytes }) }
func (l *simLink) room(way, bytes int)   { l.change(func() { l.ways[way].room = bytes }) }

// await waits for a change, at most until the deadline, with l.mu held.
func (l *simLink) await(deadline time.Time) {
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
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
	l.mu.Lock()
	defer l.mu.Unlock()
	way, peer := &l.ways[1-e.index], l.ends[1-e.index]
	for {
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case passed(e.readAt):
			return 0, os.ErrDeadlineExceeded
		case len(way.under) > 0 && (!way.held || l.broken):
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
		case !way.held && (peer.closed || peer.shut):
			return 0, io.EOF
		}
		l.await(e.readAt)
	}
}

func (e *simEnd) Write(b []byte) (total int, err error) {
	l := e.link
	l.net.pace.step()
	l.mu.Lock()
	defer l.mu.Unlock()
	way := &l.ways[e.index]
	for {
		switch {
		case e.closed:
			return total, net.ErrClosed
		case passed(e.writeAt):
			return total, os.ErrDeadlineExceeded
		case l.broken, e.shut, l.ends[1-e.index].closed:
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

// breakLocked breaks the connection at the byte that was chosen for it.
func (l *simLink) breakLocked(way int) {
	l.broken = true
	l.ways[1-way].under = nil
	if !l.ways[way].deliver {
		l.ways[way].under = nil
	}
}

func (e *simEnd) Close() error {
	l := e.link
	l.change(func() {
		way := &l.ways[1-e.index]
		if !e.closed && e.link.net.resets && len(way.under) > 0 {
			l.broken = true
		}
		e.closed, way.under = true, nil
	})
	return nil
}

func (e *simEnd) CloseWrite() error {
	e.link.change(func() { e.shut = true })
	return nil
}

func (e *simEnd) LocalAddr() net.Addr  { return simAddr }
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
