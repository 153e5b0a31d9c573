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
	broke := ending{cause: errConnectionClosed}
	const size = 100
	for _, test := range []struct {
		name   string
		before func(s *strike) // Between two failures and the third.
		pause  time.Duration   // Before the third.
		gives  bool
	}{
		{name: "three failures", pause: strikeTime, gives: true},
		{name: "too soon", pause: strikeTime - 1},
		{name: "another message", pause: strikeTime, before: func(s *strike) { s.blame(broke, 8, size, false) }},
		{name: "progress", pause: strikeTime, before: func(s *strike) { s.blame(broke, 7, size, true) }},
		{name: "between two messages", pause: strikeTime, before: func(s *strike) { s.blame(broke, 0, 0, false) }},
		{name: "two rejections", pause: strikeTime, gives: true, before: func(s *strike) {
			s.blame(ending{reason: endFull}, 7, size, false)
			s.blame(ending{reason: endUnauthorized}, 7, size, false)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s strike
				for range 2 {
					if err := s.blame(broke, 7, size, false); err != nil {
						t.Fatal(err)
					}
				}
				if test.before != nil {
					test.before(&s)
				}
				time.Sleep(test.pause)
				err := s.blame(broke, 7, size, false)
				if errors.Is(err, errMessageTooLarge) != test.gives {
					t.Fatal(err)
				}
				if test.gives && (!strings.Contains(err.Error(), "100 bytes") || !strings.Contains(err.Error(), "3 connections") || s != strike{}) {
					t.Error(err, s)
				}
			})
		})
	}
}

// TestHeadRetry_ReaderReports takes the reader's word for the limit, but only for a message that is over it.
func TestHeadRetry_ReaderReports(t *testing.T) {
	for _, test := range []struct {
		end     ending
		message uint64
		gives   bool
	}{
		{ending{reason: endTooLarge, limit: 99, told: true}, 7, true},
		{ending{reason: endTooLarge, limit: 100, told: true}, 7, false},
		{ending{reason: endTooLarge, limit: 99, told: true}, 0, false},
		{ending{reason: endOrderly, told: true}, 7, false},
		{ending{reason: endNotTLS, told: true}, 7, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s strike
			for range maxStrikes {
				err := s.blame(test.end, test.message, 100, false)
				if errors.Is(err, errMessageTooLarge) != test.gives || s != (strike{}) {
					t.Errorf("%+v: %v, %+v", test, err, s)
				}
				time.Sleep(strikeTime)
			}
		})
	}
}
