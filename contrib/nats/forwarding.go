// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file takes messages from JetStream as they come, so that all of them are kept alive, and writes them to the
// Reader as its Writer has room.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// adopt takes over what the consumer says, and returns how many messages may wait for the Writer.
func (f *Forwarder) adopt(c *jetstream.ConsumerConfig) (bound int) {
	wait := c.AckWait
	if len(c.BackOff) > 0 {
		wait = slices.Min(c.BackOff)
	}
	interval := f.cfg.keepAlive
	if wait > 0 {
		interval = min(interval, max(wait/3, time.Millisecond))
	}
	if f.interval.Swap(int64(interval)) != int64(interval) {
		signal(f.retime)
	}
	tries := f.cfg.maxDeliveries
	if c.MaxDeliver > 0 {
		tries = min(tries, uint64(c.MaxDeliver))
	}
	f.maxDeliveries.Store(tries)
	return max(c.MaxAckPending, f.cfg.maxPending)
}

// add adds a message to those that wait. While there are too many, it waits, unless ctx has ended.
func (f *Forwarder) add(ctx context.Context, m jetstream.Msg, bound int) {
	for ctx.Err() == nil {
		f.mu.Lock()
		full := len(f.pending)-f.written >= bound
		f.mu.Unlock()
		if !full {
			break
		}
		select {
		case <-f.room:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	f.pending = append(f.pending, forwarded{msg: m})
	f.mu.Unlock()
	signal(f.arrived)
}

// write passes the messages to the Writer until ctx ends.
func (f *Forwarder) write(ctx context.Context) {
	for ctx.Err() == nil {
		f.mu.Lock()
		var m jetstream.Msg
		if f.written < len(f.pending) {
			m = f.pending[f.written].msg
			f.written++ // It may be handled before the Writer returns.
		}
		f.mu.Unlock()
		if m == nil {
			select {
			case <-f.arrived:
			case <-ctx.Done():
			}
			continue
		}
		f.forward(ctx, m)
		signal(f.room)
	}
}

// forward queues a message. While the queue is full it waits.
func (f *Forwarder) forward(ctx context.Context, m jetstream.Msg) {
	data, err := f.encode(m)
	if err == nil {
		err = f.writer.WriteMessageContext(ctx, data)
	}
	if err == nil {
		return
	}
	refused := errors.Is(err, udsipc.ErrMessageTooLarge) || errors.Is(err, errEncoding)
	f.mu.Lock() // It is the last one that is written: only this goroutine writes.
	f.written--
	if refused {
		f.pending = slices.Delete(f.pending, f.written, f.written+1)
	}
	f.mu.Unlock()
	if refused {
		f.fail(m, err)
		return
	}
	select { // ctx has ended, or the Writer has: a callback of its options has ended its goroutine.
	case <-time.After(minBackoff):
	case <-ctx.Done():
	}
}

// encode calls the function of WithEncoding. A panic costs the message.
func (f *Forwarder) encode(m jetstream.Msg) (data []byte, err error) {
	if f.cfg.encode == nil {
		return m.Data(), nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: panic: %v", errEncoding, v)
		}
	}()
	return f.cfg.encode(m), nil
}

// returnUnwritten gives the messages back that the Writer does not have.
func (f *Forwarder) returnUnwritten() {
	f.mu.Lock()
	rest := f.pending[f.written:]
	f.pending = f.pending[:f.written:f.written]
	f.mu.Unlock()
	for _, one := range rest {
		f.giveBack(one.msg, 0)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
