// SPDX-License-Identifier: Apache-2.0

package duplex

// This file is how a session comes to its end when the Server stops, and how its reading pauses.

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	answerWait = time.Second      // How long a client may say nothing once it was told of the end.
	answerTime = 10 * time.Second // How long the session waits for it in all.
)

// longAgo is a read deadline that wakes whoever reads.
var longAgo = time.Unix(1, 0)

// An ending is how far a session has come that ends because the Server stops, with a protocol that has words for it
// (seam.Server.OnStop):
//
//	asked     the client was told
//	answered  the client begins nothing more (seam.Session.Finish); what is under way goes on, in both directions
//	parted    everything was sent, and the client has to close
//	refused   the client does not answer: what it sends is refused, and what it had sent is read
type ending struct {
	asked atomic.Bool

	mu       sync.Mutex // Guards what follows against the read deadline.
	answered bool
	parted   bool

	refused bool          // The reading goroutine's own, as what follows.
	waited  time.Duration // For the client, since it was asked.
}

// stop lets the session come to its end.
func (s *Session) stop() {
	s.ending.Store(true)
	if s.server.onStop == nil {
		s.refuse()
		return
	}
	s.end.asked.Store(true) // First: the answer may be here before the callback has returned.
	s.server.onStop(s)
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	_ = s.conn.SetReadDeadline(longAgo) // Wakes the reading goroutine, which sets the next. If it cannot be set, there is no connection.
}

// refuse has what the client sends from now on refused, if that can be; otherwise a wait ends at once.
func (s *Session) refuse() (refused bool) {
	if s.conn.CloseRead() == nil {
		return true
	}
	_ = s.conn.SetReadDeadline(longAgo)
	return false
}

// markFinished notes that the client begins nothing more on this session.
func (s *Session) markFinished() {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	if !s.end.asked.Load() || s.end.answered {
		return
	}
	s.end.answered = true
	s.server.wg.Go(s.part) // Ends with what is held; Stop waits for it.
}

// part sends the rest and ends this side.
func (s *Session) part() {
	s.held.Wait()
	_ = s.conn.Flush(s.server.abort) // If not, the connection has ended, or Stop has.
	half := s.conn.CloseWrite()
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	s.end.parted = true
	if half != nil {
		s.end.waited = answerTime // The client cannot see the end, and is not waited for.
	}
	_ = s.conn.SetReadDeadline(longAgo) // Wakes the reading goroutine.
}

// next returns the next message. A wait for the client ends while the Server stops.
func (s *Session) next() (data []byte, err error) {
	for {
		if !s.end.asked.Load() || s.end.refused {
			data, err = s.conn.ReadMessage()
			if err == nil || s.end.refused || !s.end.asked.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
				return data, err
			}
		}
		until, endless := s.limit()
		began := time.Now()
		data, err = s.conn.ReadMessage()
		if !endless {
			s.wait(time.Since(began))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return data, err
		}
		if endless || time.Now().Before(until) {
			continue // Something has changed.
		}
		if s.hasParted() || !s.refuse() {
			return nil, err
		}
		s.end.refused = true
		_ = s.conn.SetReadDeadline(time.Time{}) // The kernel tells the end.
	}
}

// limit sets the read deadline that the session's end asks for.
func (s *Session) limit() (until time.Time, endless bool) {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	if endless = s.end.answered && !s.end.parted; !endless {
		until = time.Now().Add(min(answerWait, answerTime-s.end.waited))
	}
	_ = s.conn.SetReadDeadline(until) // If it cannot be set, there is no connection.
	return until, endless
}

// hasLeft says whether it was the client that has ended the connection, for this reason, before everything was sent to it.
func (s *Session) hasLeft(err error) bool {
	return s.end.asked.Load() && !s.end.refused && !s.hasParted() && !errors.Is(err, os.ErrDeadlineExceeded)
}

func (s *Session) wait(d time.Duration) {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	s.end.waited += d
}

func (s *Session) hasParted() bool {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	return s.end.parted
}

// awaitResume waits while reading is held (seam.Session.PauseReading).
func (s *Session) awaitResume() {
	ready := s.resume
	if s.resume = nil; ready == nil {
		return
	}
	s.seam.ReturnReadMemory()
	select {
	case <-ready:
	case <-s.ctx.Done():
	}
}
