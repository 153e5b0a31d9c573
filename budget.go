// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file bounds the memory of all read buffers of a Reader together. Who wants more than there is waits for its turn:
// users in turn, so that the connections of one do not starve those of another, and of one user who came first. Nobody
// takes anything while somebody waits. So that two who both hold a part of what they need do not wait for each other,
// one at a time may have more than there is.

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A budget counts bytes. It is the memoryLimit of the connections of a Reader.
type budget struct {
	limit   int64
	used    atomic.Int64
	waits   atomic.Uint64        // How often somebody had to wait.
	waiting atomic.Int64         // How many wait now.
	over    atomic.Pointer[loan] // Who may have more than there is; set and cleared under mu.

	mu      sync.Mutex // Guards what follows.
	tickets uint64
	users   map[string]*userTurns // Those of whom somebody waits.
	next    []*userTurns          // The same, in the order in which it is their turn.
}

// A userTurns are the waits of one user, in the order of their tickets.
type userTurns struct {
	user  string
	turns []*turn
}

// A turn is the wait of one connection.
type turn struct {
	loan    *loan
	more    int64
	granted chan struct{} // Closed once the loan has it.
}

// TryReserve changes l to the price of size bytes, if there is as much, and nobody waits.
func (b *budget) TryReserve(l *loan, size int) bool {
	more := price(size) - l.bytes
	switch {
	case more <= 0:
		b.Release(l, -more)
	case b.waiting.Load() == 0 && b.add(more):
		l.bytes += more
	default:
		return b.overdraw(l, more)
	}
	return true
}

// add counts bytes as used, if there are as many.
func (b *budget) add(bytes int64) bool {
	for {
		used := b.used.Load()
		if used+bytes > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+bytes) {
			return true
		}
	}
}

// overdraw takes more for the one that may have it.
func (b *budget) overdraw(l *loan, more int64) bool {
	if b.over.Load() != l {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over.Load() != l { // Enough was given back.
		return false
	}
	b.used.Add(more)
	l.bytes += more
	return true
}

// Contested reports whether a connection waits.
func (b *budget) Contested() bool { return b.waiting.Load() > 0 }

// Reserve has l wait for its turn to get the price of size bytes. Its goroutine leaves l alone until the channel is
// closed, or until it has called Cancel.
func (b *budget) Reserve(l *loan, size int) <-chan struct{} {
	t := &turn{loan: l, more: max(0, price(size)-l.bytes), granted: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.ticket == 0 {
		b.tickets++
		l.ticket = b.tickets
	}
	u := b.users[l.user]
	if u == nil {
		u = &userTurns{user: l.user}
		if b.users == nil {
			b.users = make(map[string]*userTurns)
		}
		b.users[l.user] = u
		b.next = append(b.next, u)
	}
	at, _ := slices.BinarySearchFunc(u.turns, l.ticket, func(t *turn, ticket uint64) int {
		if t.loan.ticket < ticket {
			return -1
		}
		return 1
	})
	u.turns = slices.Insert(u.turns, at, t)
	b.waiting.Add(1) // Before used is looked at: whoever gives back does it the other way round.
	b.grantLocked()
	select {
	case <-t.granted:
	default:
		b.waits.Add(1)
	}
	return t.granted
}

// Cancel ends the wait of l. What was granted at the same moment is in l.
func (b *budget) Cancel(l *loan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.users[l.user]
	if u == nil {
		return
	}
	at := slices.IndexFunc(u.turns, func(t *turn) bool { return t.loan == l })
	if at < 0 {
		return
	}
	u.turns = slices.Delete(u.turns, at, at+1)
	b.waiting.Add(-1)
	if len(u.turns) == 0 {
		b.next = slices.DeleteFunc(b.next, func(other *userTurns) bool { return other == u })
		delete(b.users, u.user)
	}
	b.grantLocked() // It may have been the first, and wanted more than the next.
}

// grantLocked serves those whose turn it is. Nobody is passed over: a large message would wait for ever.
func (b *budget) grantLocked() {
	for len(b.next) > 0 {
		u := b.next[0]
		t := u.turns[0]
		switch {
		case b.add(t.more):
		case b.over.Load() == nil:
			b.over.Store(t.loan)
			b.used.Add(t.more)
		default:
			return
		}
		u.turns = slices.Delete(u.turns, 0, 1)
		b.next = slices.Delete(b.next, 0, 1)
		if len(u.turns) > 0 {
			b.next = append(b.next, u)
		} else {
			delete(b.users, u.user)
		}
		t.loan.bytes += t.more
		b.waiting.Add(-1)
		close(t.granted)
	}
}

// Release gives so many bytes back, and serves those who wait.
func (b *budget) Release(l *loan, bytes int64) {
	if bytes == 0 {
		return
	}
	l.bytes -= bytes
	b.used.Add(-bytes)
	if b.over.Load() == nil && b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.Load() <= b.limit {
		b.over.Store(nil) // Nobody has more than there is any more, whoever gave back.
	}
	b.grantLocked()
}
