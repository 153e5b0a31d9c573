// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file decides when a message that no reader takes is given up.

import (
	"fmt"
	"time"
)

// maxStrikes is how many connections a message may break before it is set aside, and strikeTime how
// long that must take at least if the peer does not say why: one that dies at each start would cost
// a good message otherwise.
const (
	maxStrikes = 3
	strikeTime = 5 * time.Second
)

// Graceful ends alone do not reach the limit: the compiler proves it.
const _ = uint64(strikeTime - maxStrikes*closeGrace)

// A strike counts the connections in a row that broke in the middle of the same first message, with
// nothing before it.
type strike struct {
	message uint64
	count   int
	since   time.Time
}

// blame decides whether this message, 0 for none, is to be set aside because of the end of a connection
// in the middle of it. progress says that others were sent before it.
func (s *strike) blame(end ending, message uint64, size uint64, progress bool) (verdict error) {
	switch {
	case message > 0 && end.reason == endTooLarge && size > end.limit:
		*s = strike{}
		return fmt.Errorf("%w for the reader: a message of %d bytes, its limit is %d (its WithMaxMessageSize)", errMessageTooLarge, size, end.limit)
	case message == 0 || progress:
		*s = strike{}
		return nil
	case end.reason.rejects(), end.told && end.reason == endOrderly, end.reason == endTooLarge:
		return nil // This message is not to blame.
	}
	now := time.Now()
	if s.message != message {
		*s = strike{message: message, since: now}
	}
	if s.count++; s.count < maxStrikes || now.Sub(s.since) < strikeTime {
		return nil
	}
	count := s.count
	*s = strike{}
	return fmt.Errorf("%w for the reader: gave up a message of %d bytes: %d connections failed while it was sent; is it over the reader's limit?", errMessageTooLarge, size, count)
}
