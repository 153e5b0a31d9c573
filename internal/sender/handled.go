// SPDX-License-Identifier: Apache-2.0

package sender

// This file tells the program how far its messages are handled.

import (
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/wire"
)

// A handledCalls serializes the calls of Config.Handled without a lock.
type handledCalls struct {
	waiting atomic.Int64 // Calls of tellHandled that are not served; one goroutine serves while this is not 0.
	told    uint64       // The last number. Belongs to the goroutine that serves.
}

// acknowledge is Queue.Acknowledge. It is called by ReadLoop.
func (l *Loop) acknowledge(number uint64) (early bool, err error) {
	early, err = l.queue.Acknowledge(number)
	if err == nil && !early {
		l.tellHandled()
	}
	return early, err
}

// tellHandled tells the program the last number, if it has grown. The goroutine of the loop and ReadLoop
// call it, without a lock of the queue. If one is in the callback, it also serves the other. A producer
// does not call it, even if its write completes what was acknowledged early: the program may hold locks.
func (l *Loop) tellHandled() {
	if l.cfg.Handled == nil || l.handled.waiting.Add(1) > 1 {
		return
	}
	for {
		seen := l.handled.waiting.Load()
		if number, _ := l.queue.Handled(); number > l.handled.told {
			l.handled.told = number
			l.cfg.Handled(number)
		}
		if l.handled.waiting.Add(-seen) == 0 {
			return
		}
	}
}

// NextHello returns the hello with which another loop goes on after this one.
func (l *Loop) NextHello() wire.Hello {
	seq := l.queue.Sequence()
	return wire.Hello{
		Writer: l.cfg.Writer, Epoch: l.epoch.Load() + 1, FirstSeq: seq.Acked + 1, LastSentSeq: seq.HighestSent,
	}
}

// Handled returns the number up to which all messages were handled or given up. known is false before
// the first session.
func (l *Loop) Handled() (number uint64, known bool) { return l.queue.Handled() }
