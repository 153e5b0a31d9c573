// SPDX-License-Identifier: Apache-2.0

package sender

// This file ends the sending direction of an Inline: what is queued is written, and the peer's system takes it.

import (
	"context"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// ackPollInterval is how often Finish looks whether the peer's system has taken everything.
const ackPollInterval = time.Millisecond

// Finish refuses further messages, and waits until those that are queued are written and, over TCP, acknowledged by the
// peer's system. ctx ends after CloseTimeout at the latest. The peer of a TCP connection may not read before its own
// bytes are read: discard is called again and again meanwhile to throw those away.
func (s *Inline) Finish(ctx context.Context, discard func(scratch []byte)) error {
	return errdefs.First(s.finishQueue(ctx, discard), s.finishConn(ctx, discard))
}

// finishQueue refuses further messages, and waits until those that are queued are written.
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
	return fmt.Errorf("%d messages were not sent within %v (WithWriteTimeout): %w",
		counts.Undelivered, s.cfg.CloseTimeout, err)
}

// finishConn tells the peer that nothing more comes and, over TCP, waits until its system has taken everything.
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

// waitFor waits until condition returns true, and asks it whenever event receives; over TCP also now and then, after a
// call of discard. It returns false if ctx ends first.
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
