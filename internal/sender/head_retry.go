// SPDX-License-Identifier: Apache-2.0

package sender

// This file decides when a message that no reader takes is given up.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// maxHeadFailures is how many connections a message may break before it is set aside, and minHeadFailureTime how
// long that must take at least if the peer does not say why: one that dies at each start would cost
// a good message otherwise.
const (
	maxHeadFailures    = 3
	minHeadFailureTime = 5 * time.Second
)

// Graceful ends alone do not reach the limit: the compiler proves it.
const _ = uint64(minHeadFailureTime - maxHeadFailures*transport.CloseGrace)

// A retryCounter counts the connections in a row that broke in the middle of the same first message, with
// nothing before it.
type retryCounter struct {
	seq      uint64
	failures int
	since    time.Time
}

// countHeadFailure decides whether this message, 0 for none, is to be set aside because of the end of a connection
// in the middle of it. progress says that others were sent before it.
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
		return nil // This message is not to blame.
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
