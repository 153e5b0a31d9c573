// SPDX-License-Identifier: Apache-2.0

package sender

// This file closes the sending side of an Inline: it waits until the queue is written and, over
// TCP, acknowledged.

import (
	"context"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// ackPollInterval is how often Finish checks whether the peer's kernel has acknowledged everything.
const ackPollInterval = time.Millisecond

// Finish refuses further messages. It waits until the queued ones are written and, over TCP,
// acknowledged by the peer's kernel. ctx must end after CloseTimeout at the latest. A TCP peer may
// not read before its own bytes are read. Finish therefore calls discard repeatedly, to discard
// those bytes.
func (s *Inline) Finish(ctx context.Context, discard func(scratch []byte)) error {
	return errdefs.First(s.finishQueue(ctx, discard), s.finishConn(ctx, discard))
}

// finishQueue refuses further messages, and waits until the queued ones are written.
func (s *Inline) finishQueue(ctx context.Context, discard func(scratch []byte)) error {
	s.queue.Close()
	flushed := s.queue.Flushed()
	if !s.waitFor(ctx, func() bool {
		select {
		case <-flushed:
			return true
		default:
			return false
		}
	}, flushed, discard) {
		_ = s.queue.DiscardAll(nil)
	}
	counts, _ := s.queue.Snapshot()
	if counts.Undelivered == 0 {
		return nil
	}
	err := s.failure()
	if err == nil || ctx.Err() != nil {
		err = errdefs.ErrBackpressure
	}
	return fmt.Errorf("%s not sent within %v (WithWriteTimeout): %w",
		errdefs.CountIs(counts.Undelivered, "was", "were"), s.cfg.CloseTimeout, err)
}

// finishConn closes the sending side of the connection. Over TCP it then waits until the peer's
// kernel has acknowledged everything.
func (s *Inline) finishConn(ctx context.Context, discard func(scratch []byte)) error {
	if s.failure() != nil {
		return nil
	}
	transport.EndSending(s.conn)
	var failed error
	_ = s.waitFor(ctx, func() (acknowledged bool) {
		acknowledged, failed = transport.AcknowledgedByTCP(s.conn)
		return acknowledged || failed != nil
	}, nil, discard)
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return fmt.Errorf("%w: its system has not taken everything within %v (WithWriteTimeout)",
			errdefs.ErrBackpressure, s.cfg.CloseTimeout)
	}
	return nil
}

// waitFor waits until condition returns true. It calls condition whenever event receives. Over TCP
// it also calls discard and then condition at intervals. It returns false if ctx ends first.
func (s *Inline) waitFor(ctx context.Context, condition func() bool, event <-chan struct{},
	discard func(scratch []byte)) bool {
	var tick <-chan time.Time
	var scratch []byte
	for tcp := transport.IsTCP(s.conn); !condition(); {
		if tcp && tick == nil {
			ticker := time.NewTicker(ackPollInterval)
			defer ticker.Stop()
			tick, scratch = ticker.C, make([]byte, 16<<10)
		}
		select {
		case <-event:
		case <-tick:
			discard(scratch)
		case <-ctx.Done():
			return condition()
		}
	}
	return true
}
