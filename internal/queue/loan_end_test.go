// SPDX-License-Identifier: Apache-2.0

package queue_test

// Messages that are lent while the connection or the queue ends.

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// TestQueue_GivenUpLoan_Returns: the message is given up as it was written, and the producer goes on.
func TestQueue_GivenUpLoan_Returns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, recalled := range []bool{false, true} {
			q := lends(t, func() {})
			m := q.writes(loanSize, 'a')
			q.take(1<<20, 64)
			if recalled {
				m.cancel()
				synctest.Wait()
			}
			q.written(50, 0)
			q.StopLoans()
			q.rewinds(2, loanSize)
			if data, ok := q.RemoveHead(2); !ok || string(data) != string(bytes.Repeat([]byte{'a'}, loanSize)) {
				t.Error("the message was not given up", ok)
			}
			<-m.done
			if m.err != nil || m.after != 0 {
				t.Errorf("%v after %v", m.err, m.after)
			}
			q.sound()
			q.tallies(tally(2, 0, 1, 0, 0, 1, 0, 0, 0))
		}
	})
}

// TestQueue_NextConnectionTakesNoLoans_GetsCopy: its write cannot be interrupted.
func TestQueue_NextConnectionTakesNoLoans_GetsCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, recalled := range []bool{false, true} {
			q := lends(t, func() {})
			m := q.writes(loanSize, 'a')
			q.take(1000, 64)
			if recalled {
				m.cancel()
				synctest.Wait()
			}
			q.written(1000, 0)
			q.StopLoans()
			q.rewinds(2, loanSize)
			bufs := q.take(1<<20, 64)
			<-m.done
			if m.after != 0 {
				t.Errorf("the producer waited for %v", m.after)
			}
			isFrame(t, bytes.Join(bufs, nil), 'a')
			q.sound()
			q.written(loanSize+3, 1)
		}
	})
}

// TestQueue_LoansAtEnd_ReturnAsWritten: those in a write are returned after it.
func TestQueue_LoansAtEnd_ReturnAsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, recalled := range []bool{false, true} {
			q := lends(t, func() {})
			writing := q.writes(loanSize, 'a')
			q.take(1000, 64)
			waiting := q.writes(loanSize, 'b')
			if recalled {
				writing.cancel()
				synctest.Wait()
			}
			left, rest := q.TakeUndelivered()
			<-waiting.done
			time.Sleep(time.Minute)
			if synctest.Wait(); writing.returned() {
				t.Error("a write uses the memory")
			}
			q.sound()
			q.written(1000, 0)
			<-writing.done
			q.sound()
			got := ""
			rest.Visit(func(data []byte) { got += string(data[0]) + string(data[loanSize-1]) })
			if left != 2 || got != "aabb" {
				t.Errorf("%d are left: %q", left, got)
			}
			q.tallies(tally(3, 0, 1, 0, 0, 2, 0, 0, 0))
		}
	})
}
