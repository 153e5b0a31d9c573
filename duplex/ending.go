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
	replyTimeout = time.Second      // How long a client may say nothing once it was told of the end.
	maxReplyWait = 10 * time.Second // How long the session waits for it in all.
)

// aLongTimeAgo is a read deadline that wakes whoever reads.
var aLongTimeAgo = time.Unix(1, 0)

// An stopState is how far a session has come that ends because the Server stops, with a protocol that has words for it
// (seam.Server.OnStop):
//
//	asked     the client was told
//	answered  the client begins nothing more (seam.Session.Finish); what is under way goes on, in both directions
//	parted    everything was sent, and the client has to close
//	refused   the client does not answer: what it sends is refused, and what it had sent is read
type stopState struct {
	goodbyeSent atomic.Bool

	mu         sync.Mutex // Guards what follows against the read deadline.
	finished   bool
	sendClosed bool

	inputRefused bool          // The reading goroutine's own, as what follows.
	waited       time.Duration // For the client, since it was asked.
}

// stop lets the session come to its end.
func (s *ServerConn) stop() {
	s.closing.Store(true)
	if s.server.onStop == nil {
		s.refuseInput()
		return
	}
	s.stopState.goodbyeSent.Store(true) // First: the answer may be here before the callback has returned.
	s.server.onStop(s)
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	_ = s.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine, which sets the next. If it cannot be set, there is no connection.
}

// refuseInput has what the client sends from now on refused, if that can be; otherwise a wait ends at once.
func (s *ServerConn) refuseInput() (refused bool) {
	if s.conn.CloseRead() == nil {
		return true
	}
	_ = s.conn.SetReadDeadline(aLongTimeAgo)
	return false
}

// markFinished notes that the client begins nothing more on this session.
func (s *ServerConn) markFinished() {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	if !s.stopState.goodbyeSent.Load() || s.stopState.finished {
		return
	}
	s.stopState.finished = true
	s.server.wg.Go(s.closeSend) // Ends with what is held; Stop waits for it.
}

// closeSend sends the rest and ends this side.
func (s *ServerConn) closeSend() {
	s.holdGroup.Wait()
	_ = s.conn.Flush(s.server.forceCtx) // If not, the connection has ended, or Stop has.
	half := s.conn.CloseWrite()
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	s.stopState.sendClosed = true
	if half != nil {
		s.stopState.waited = maxReplyWait // The client cannot see the end, and is not waited for.
	}
	_ = s.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine.
}

// next returns the next message. A wait for the client ends while the Server stops.
func (s *ServerConn) next() (data []byte, err error) {
	for {
		if !s.stopState.goodbyeSent.Load() || s.stopState.inputRefused {
			data, err = s.conn.ReadMessage()
			if err == nil || s.stopState.inputRefused || !s.stopState.goodbyeSent.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
				return data, err
			}
		}
		until, endless := s.setStopDeadline()
		began := time.Now()
		data, err = s.conn.ReadMessage()
		if !endless {
			s.addWait(time.Since(began))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return data, err
		}
		if endless || time.Now().Before(until) {
			continue // Something has changed.
		}
		if s.isSendClosed() || !s.refuseInput() {
			return nil, err
		}
		s.stopState.inputRefused = true
		_ = s.conn.SetReadDeadline(time.Time{}) // The kernel tells the end.
	}
}

// setStopDeadline sets the read deadline that the session's end asks for.
func (s *ServerConn) setStopDeadline() (until time.Time, endless bool) {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	if endless = s.stopState.finished && !s.stopState.sendClosed; !endless {
		until = time.Now().Add(min(replyTimeout, maxReplyWait-s.stopState.waited))
	}
	_ = s.conn.SetReadDeadline(until) // If it cannot be set, there is no connection.
	return until, endless
}

// clientLeft says whether it was the client that has ended the connection, for this reason, before everything was sent to it.
func (s *ServerConn) clientLeft(err error) bool {
	return s.stopState.goodbyeSent.Load() && !s.stopState.inputRefused && !s.isSendClosed() && !errors.Is(err, os.ErrDeadlineExceeded)
}

func (s *ServerConn) addWait(d time.Duration) {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	s.stopState.waited += d
}

func (s *ServerConn) isSendClosed() bool {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	return s.stopState.sendClosed
}

// waitReadResume waits while reading is held (seam.Session.PauseReading).
func (s *ServerConn) waitReadResume() {
	ready := s.readResume
	if s.readResume = nil; ready == nil {
		return
	}
	s.seam.ReturnReadMemory()
	select {
	case <-ready:
	case <-s.ctx.Done():
	}
}
