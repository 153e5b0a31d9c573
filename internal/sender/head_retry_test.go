// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestRetryCounter_ThreeFailures_GivesUp gives a message up only once it has broken enough
// connections, over enough time, without anything else to blame.
func TestRetryCounter_ThreeFailures_GivesUp(t *testing.T) {
	broke := transport.Outcome{Cause: errdefs.ErrConnectionClosed}
	const size = 100
	for _, test := range []struct {
		name   string
		before func(s *retryCounter) // Between two failures and the third.
		pause  time.Duration         // Before the third.
		gives  bool
	}{
		{name: "three failures", pause: minHeadFailureTime, gives: true},
		{name: "too soon", pause: minHeadFailureTime - 1},
		{name: "another message", pause: minHeadFailureTime,
			before: func(s *retryCounter) { s.countHeadFailure(broke, 8, size, false) }},
		{name: "progress", pause: minHeadFailureTime,
			before: func(s *retryCounter) { s.countHeadFailure(broke, 7, size, true) }},
		{name: "between two messages", pause: minHeadFailureTime,
			before: func(s *retryCounter) { s.countHeadFailure(broke, 0, 0, false) }},
		{name: "two rejections", pause: minHeadFailureTime, gives: true, before: func(s *retryCounter) {
			s.countHeadFailure(transport.Outcome{Reason: wire.CloseFull}, 7, size, false)
			s.countHeadFailure(transport.Outcome{Reason: wire.CloseUnauthorized}, 7, size, false)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s retryCounter
				for range 2 {
					if err := s.countHeadFailure(broke, 7, size, false); err != nil {
						t.Fatal(err)
					}
				}
				if test.before != nil {
					test.before(&s)
				}
				time.Sleep(test.pause)
				err := s.countHeadFailure(broke, 7, size, false)
				if errors.Is(err, errdefs.ErrMessageTooLarge) != test.gives {
					t.Fatal(err)
				}
				if test.gives && (!strings.Contains(err.Error(), "100 bytes") ||
					!strings.Contains(err.Error(), "3 connections") || s != retryCounter{}) {
					t.Error(err, s)
				}
			})
		})
	}
}

// TestRetryCounter_ReaderReports_CountsOversizedOnly takes the reader's word for the limit, but
// only for a message that is over it.
func TestRetryCounter_ReaderReports_CountsOversizedOnly(t *testing.T) {
	for _, test := range []struct {
		end     transport.Outcome
		message uint64
		gives   bool
	}{
		{transport.Outcome{Reason: wire.CloseTooLarge, ReaderLimit: 99, Reported: true}, 7, true},
		{transport.Outcome{Reason: wire.CloseTooLarge, ReaderLimit: 100, Reported: true}, 7, false},
		{transport.Outcome{Reason: wire.CloseTooLarge, ReaderLimit: 99, Reported: true}, 0, false},
		{transport.Outcome{Reason: wire.CloseOrderly, Reported: true}, 7, false},
		{transport.Outcome{Reason: wire.CloseNotTLS, Reported: true}, 7, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s retryCounter
			for range maxHeadFailures {
				err := s.countHeadFailure(test.end, test.message, 100, false)
				if errors.Is(err, errdefs.ErrMessageTooLarge) != test.gives || s != (retryCounter{}) {
					t.Errorf("%+v: %v, %+v", test, err, s)
				}
				time.Sleep(minHeadFailureTime)
			}
		})
	}
}

// TestRetryCounter_ReaderReports_EndsCount of the connections that failed before.
func TestRetryCounter_ReaderReports_EndsCount(t *testing.T) {
	s := retryCounter{seq: 7, failures: 2}
	end := transport.Outcome{Reason: wire.CloseTooLarge, ReaderLimit: 99, Reported: true}
	if err := s.countHeadFailure(end, 7, 100, false); err == nil || s != (retryCounter{}) {
		t.Errorf("%v, %+v", err, s)
	}
}
