// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A SimNet is a network in memory with faults that are rare in real ones: connections break after
// any byte, stall, and deliver late. It works under a fake clock.
type SimNet struct {
	mu         sync.Mutex
	listener   *simListener
	refusing   bool
	holding    bool
	Capacity   int  // Bytes in flight in one direction of a connection; 0: SimCapacity.
	Resets     bool // Closing with unread bytes sends a reset, as with a socket.
	Patient    bool // A closed listener still returns its backlog.
	dials      int
	pace       pace
	BreakFirst func(*SimLink) // Prepares the first connection.
	links      []*SimLink
}

// Listen returns a listener for all later connections.
func (n *SimNet) Listen() *simListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = &simListener{net: n, changed: make(chan struct{})}
	return n.listener
}

// Unlisten closes the listener and makes later connections fail.
func (n *SimNet) Unlisten() {
	n.mu.Lock()
	l := n.listener
	n.listener = nil
	n.mu.Unlock()
	if l != nil {
		_ = l.Close() // Never fails.
	}
}

// Refuse makes dialing fail while on is true.
func (n *SimNet) Refuse(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusing = on
}

// Hold delays the bytes of writers on new connections while on is true.
func (n *SimNet) Hold(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holding = on
}

// Dialed returns how often Dial was called.
func (n *SimNet) Dialed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// Live returns the connections that are not closed at both ends, the oldest first.
func (n *SimNet) Live() []*SimLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = slices.DeleteFunc(n.links, (*SimLink).over)
	return slices.Clone(n.links)
}

// Dial is a dialer for WithDialer.
func (n *SimNet) Dial(context.Context) (net.Conn, error) {
	n.mu.Lock()
	l := n.listener
	n.dials++
	refused := n.refusing || l == nil
	holding := n.holding
	n.mu.Unlock()
	if refused || !l.offer() {
		return nil, syscall.ECONNREFUSED
	}
	link := NewSimLink(n)
	link.Ways[0].Held = holding
	if prepare := n.BreakFirst; prepare != nil {
		n.BreakFirst = nil
		prepare(link)
	}
	n.mu.Lock()
	n.links = append(n.links, link)
	n.mu.Unlock()
	if !l.queue(link) {
		return nil, syscall.ECONNREFUSED
	}
	return link.Ends[0], nil
}

// A simListener has an unlimited backlog.
type simListener struct {
	net     *SimNet
	mu      sync.Mutex
	changed chan struct{}
	backlog []*SimLink
	closed  bool
}

func (l *simListener) offer() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

func (l *simListener) queue(link *SimLink) bool {
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
			return link.Ends[1], nil
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
	if l.net.Patient {
		return nil
	}
	for _, link := range l.backlog {
		link.Cut()
	}
	l.backlog = nil
	return nil
}

func (l *simListener) Addr() net.Addr { return simAddr }

var simAddr = &net.UnixAddr{Name: "memory", Net: "unix"}

// SimCapacity is the default limit of bytes in flight in one direction.
const SimCapacity = 4 << 10

// A pace detects an endless loop: too many operations at one moment of the fake clock.
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
