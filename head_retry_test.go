// SPDX-License-Identifier: Apache-2.0

package udsipc

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeadRetry gives a message up only once it has broken enough connections, over enough time, without anything else to
// blame.
func TestHeadRetry(t *testing.T) {
	broke := outcome{cause: errConnectionClosed}
	const size = 100
	for _, test := range []struct {
		name   string
		before func(s *retryCounter) // Between two failures and the third.
		pause  time.Duration         // Before the third.
		gives  bool
	}{
		{name: "three failures", pause: minHeadFailureTime, gives: true},
		{name: "too soon", pause: minHeadFailureTime - 1},
		{name: "another message", pause: minHeadFailureTime, before: func(s *retryCounter) { s.countHeadFailure(broke, 8, size, false) }},
		{name: "progress", pause: minHeadFailureTime, before: func(s *retryCounter) { s.countHeadFailure(broke, 7, size, true) }},
		{name: "between two messages", pause: minHeadFailureTime, before: func(s *retryCounter) { s.countHeadFailure(broke, 0, 0, false) }},
		{name: "two rejections", pause: minHeadFailureTime, gives: true, before: func(s *retryCounter) {
			s.countHeadFailure(outcome{reason: closeFull}, 7, size, false)
			s.countHeadFailure(outcome{reason: closeUnauthorized}, 7, size, false)
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
				if errors.Is(err, errMessageTooLarge) != test.gives {
					t.Fatal(err)
				}
				if test.gives && (!strings.Contains(err.Error(), "100 bytes") || !strings.Contains(err.Error(), "3 connections") || s != retryCounter{}) {
					t.Error(err, s)
				}
			})
		})
	}
}

// TestHeadRetry_ReaderReports takes the reader's word for the limit, but only for a message that is over it.
func TestHeadRetry_ReaderReports(t *testing.T) {
	for _, test := range []struct {
		end     outcome
		message uint64
		gives   bool
	}{
		{outcome{reason: closeTooLarge, readerLimit: 99, reported: true}, 7, true},
		{outcome{reason: closeTooLarge, readerLimit: 100, reported: true}, 7, false},
		{outcome{reason: closeTooLarge, readerLimit: 99, reported: true}, 0, false},
		{outcome{reason: closeOrderly, reported: true}, 7, false},
		{outcome{reason: closeNotTLS, reported: true}, 7, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s retryCounter
			for range maxHeadFailures {
				err := s.countHeadFailure(test.end, test.message, 100, false)
				if errors.Is(err, errMessageTooLarge) != test.gives || s != (retryCounter{}) {
					t.Errorf("%+v: %v, %+v", test, err, s)
				}
				time.Sleep(minHeadFailureTime)
			}
		})
	}
}
