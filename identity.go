// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a Writer that goes on where an earlier process has ended, and what it tells about that.

import (
	"errors"
	"fmt"
	"math"
)

// An Identity is what a Writer has from an earlier process (WithIdentity). Numbers are at most 2^63-1.
type Identity struct {
	Writer WriterID // The same in all processes; not zero.

	// First is the number of the first message that will be queued, from 1: the oldest that an earlier
	// process has left, or the next one. It may be any number above what was handled: if messages are
	// missing, it jumps over them.
	First uint64

	// Sent is the largest number that an earlier process may have sent, First-1 if there is none. A
	// reader that has no memory of the Writer sets Delivery.Redelivered up to this number. Too large
	// does no harm.
	Sent uint64

	// Attempt is the number of the next attempt to open a session, from 1. It must be larger than that of
	// every attempt of an earlier process; each attempt of this Writer adds 1. A reader refuses a smaller
	// one. A count of starts in the high 31 bits is enough.
	Attempt uint64
}

// WithIdentity makes the Writer go on with the identity of an earlier process, so that Delivery.Writer
// and Delivery.Seq mean the same message for ever. It needs WithAcknowledgements. By default the
// identity is new. Two Writers must not use an identity at the same time: the reader disconnects the
// one whose Attempt is smaller. An Identity that cannot be is an error of the constructor.
//
// The messages are numbered from First in the order in which they are queued. The program queues
// again what the earlier process has left, in the same order. What it queues up to Sent is not
// dropped by WithMaxAge and OverflowDropOldest; a later message that they drop leaves no gap in the numbers.
// A message that is given up because the reader refuses its size keeps its number.
//
// If nothing is queued before the first session, the reader may know better: the first message gets the
// number after the one that Handled returns. Otherwise a reader that has handled more than what is queued is
// reported as ErrInvalidSession, and the Writer tries again. So queue before Start, or go on from Handled
// after WaitConnected. A first message that is queued between them may get either number.
func WithIdentity(identity Identity) WriterOption {
	return writerOption(func(c *writerConfig) { c.identity = &identity })
}

// checkIdentity refuses an identity that cannot be.
func (c *writerConfig) checkIdentity() error {
	id := c.identity
	switch {
	case !c.acknowledgements:
		return errors.New("udsipc: WithIdentity needs WithAcknowledgements")
	case id.Writer == WriterID{}:
		return errors.New("udsipc: WithIdentity: Writer is zero: want 16 random bytes (crypto/rand)")
	case id.First == 0 || id.First > math.MaxInt64:
		return fmt.Errorf("udsipc: WithIdentity: First is %d: want 1 to 2^63-1", id.First)
	case id.Sent < id.First-1 || id.Sent > math.MaxInt64:
		return fmt.Errorf("udsipc: WithIdentity: Sent is %d: want %d, which is First-1, to 2^63-1", id.Sent, id.First-1)
	case id.Attempt == 0 || id.Attempt > math.MaxInt64:
		return fmt.Errorf("udsipc: WithIdentity: Attempt is %d: want 1 to 2^63-1", id.Attempt)
	}
	return nil
}

// Identity returns what WithIdentity needs for a Writer that goes on after this one, in this process or
// another: First is the number after Handled, Sent is exact. It is final when Stop has returned without
// an error of its context. Without WithAcknowledgements it is zero.
func (w *Writer) Identity() Identity {
	if !w.cfg.acknowledgements {
		return Identity{}
	}
	h := w.loop.NextHello()
	return Identity{Writer: WriterID(h.Writer), First: h.FirstSeq, Sent: h.LastSentSeq, Attempt: h.Epoch}
}

// WithHandled sets a function that is called when acknowledgements arrive: all messages up to number
// were handled, or given up and passed to WithUndelivered. Numbers are those of Delivery.Seq. They grow
// from call to call, and one call may stand for many messages. It needs WithAcknowledgements.
//
// Calls do not overlap. They come from the goroutine that reads acknowledgements or the one that
// writes: return quickly, and do not wait for the Writer (Flush, Stop, a WriteMessage that may wait).
// After Stop has returned there is no call, unless its context ended first.
func WithHandled(callback func(number uint64)) WriterOption {
	return writerOption(func(c *writerConfig) { c.onHandled = callback })
}

// Handled returns the number up to which all messages were handled, or given up. With WithIdentity
// known is false, and number is First-1, until the first session is open (WaitConnected). number is
// then what the reader knows, First-1 or more, if nothing was queued before. It may be above all that the
// program has, if that is an older copy: then the identity must be given up, because other messages have
// these numbers. Without WithAcknowledgements known is always false.
func (w *Writer) Handled() (number uint64, known bool) { return w.loop.Handled() }
