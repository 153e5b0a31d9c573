// SPDX-License-Identifier: Apache-2.0

package sender

// This file decides when to give up a message that no reader accepts.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// maxHeadFailures connections in a row must fail in the middle of a message before the message is
// given up. If the peer gives no reason, this must also take minHeadFailureTime: a reader that
// crashes at each start must not cost a good message.
const (
	maxHeadFailures    = 3
	minHeadFailureTime = 5 * time.Second
)

// Graceful ends alone do not reach the limit: otherwise this does not compile.
const _ = uint64(minHeadFailureTime - maxHeadFailures*transport.CloseGrace)

// A retryCounter counts consecutive connections that failed in the middle of the same first
// message.
type retryCounter struct {
	seq      uint64
	failures int
	since    time.Time
}

// countHeadFailure counts a connection that ended in the middle of this message; 0 means in none.
// It returns an error if the message is to be given up. progress reports whether other messages
// were sent before it.
func (s *retryCounter) countHeadFailure(end transport.Outcome, message uint64, size uint64,
	progress bool) (verdict error) {
	switch {
	case message > 0 && end.Reason == wire.CloseTooLarge && size > end.ReaderLimit:
		*s = retryCounter{}
		return fmt.Errorf(
			"%w for the reader: a message of %d bytes, its limit is %d (its WithMaxMessageSize)",
			errdefs.ErrMessageTooLarge, size, end.ReaderLimit)
	case message == 0 || progress:
		*s = retryCounter{}
		return nil
	case end.Reason.RejectsPeer(), end.Reported && end.Reason == wire.CloseOrderly, end.Reason == wire.CloseTooLarge:
		return nil // The message is not the reason.
	}
	now := time.Now()
	if s.seq != message {
		*s = retryCounter{seq: message, since: now}
	}
	if s.failures++; s.failures < maxHeadFailures || now.Sub(s.since) < minHeadFailureTime {
		return nil
	}
	count := s.failures
	*s = retryCounter{}
	return fmt.Errorf("%w for the reader: gave up a message of %d bytes: %d connections failed "+
		"while it was sent; is it over the reader's limit?", errdefs.ErrMessageTooLarge, size, count)
}
