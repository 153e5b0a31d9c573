// SPDX-License-Identifier: Apache-2.0

package duplex

// This file closes a connection while the Server stops, and pauses its reading.

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	replyTimeout = time.Second      // Time that a client may send nothing after the goodbye.
	maxReplyWait = 10 * time.Second // Total time that the server waits for a client.
)

// pastDeadline is a read deadline that interrupts a blocked read.
var pastDeadline = time.Unix(1, 0)

// A stopState is the progress of a connection that closes because the Server stops, with a protocol
// that has a goodbye (seam.Server.OnStop). The states, in order:
//
//	goodbyeSent   the goodbye was sent to the client
//	finished      the client starts nothing new (seam.Session.Finish); work in flight continues
//	sendClosed    everything was sent; the client has to close
//	inputRefused  the client did not reply: new input is refused, and input in the kernel is read
type stopState struct {
	goodbyeSent atomic.Bool

	mu         sync.Mutex // Guards the next two fields, waited, and the read deadline.
	finished   bool
	sendClosed bool

	inputRefused bool          // Owned by the reading goroutine.
	waited       time.Duration // Time spent waiting for the client since the goodbye.
}

// stop starts the graceful close of the connection.
func (s *ServerConn) stop() {
	s.closing.Store(true)
	if s.server.onStop == nil {
		s.refuseInput()
		return
	}
	s.stopState.goodbyeSent.Store(true) // First: the reply may arrive before onStop returns.
	s.server.onStop(s)
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	// It wakes the reading goroutine, which sets the next deadline. An error means that the
	// connection has ended.
	_ = s.conn.SetReadDeadline(pastDeadline)
}

// refuseInput makes the kernel refuse further input, and reports whether it does. If it cannot, a
// blocked read ends at once.
func (s *ServerConn) refuseInput() (refused bool) {
	if s.conn.CloseRead() == nil {
		return true
	}
	_ = s.conn.SetReadDeadline(pastDeadline)
	return false
}

// markFinished records that the client starts nothing new on this connection.
func (s *ServerConn) markFinished() {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	if !s.stopState.goodbyeSent.Load() || s.stopState.finished {
		return
	}
	s.stopState.finished = true
	s.server.wg.Go(s.closeSend) // Ends after the last Release; Stop waits for it.
}

// closeSend sends the remaining messages and half-closes the connection.
func (s *ServerConn) closeSend() {
	s.holdGroup.Wait()
	_ = s.conn.Flush(s.server.forceCtx) // An error means that the connection or Stop has ended.
	half := s.conn.CloseWrite()
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	s.stopState.sendClosed = true
	if half != nil {
		// Without a half-close the client cannot know the end: do not wait for it.
		s.stopState.waited = maxReplyWait
	}
	_ = s.conn.SetReadDeadline(pastDeadline) // Wakes the reading goroutine.
}

// next returns the next message. While the Server stops, the wait for a message is limited.
func (s *ServerConn) next() (data []byte, err error) {
	for {
		if !s.stopState.goodbyeSent.Load() || s.stopState.inputRefused {
			data, err = s.conn.ReadMessage()
			if err == nil || s.stopState.inputRefused || !s.stopState.goodbyeSent.Load() ||
				!errors.Is(err, os.ErrDeadlineExceeded) {
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
			continue // The state has changed: compute the deadline again.
		}
		if s.isSendClosed() || !s.refuseInput() {
			return nil, err
		}
		s.stopState.inputRefused = true
		_ = s.conn.SetReadDeadline(time.Time{}) // The kernel reports the end of the input.
	}
}

// setStopDeadline sets the read deadline for the current stopState. endless reports that there is
// none.
func (s *ServerConn) setStopDeadline() (until time.Time, endless bool) {
	s.stopState.mu.Lock()
	defer s.stopState.mu.Unlock()
	if endless = s.stopState.finished && !s.stopState.sendClosed; !endless {
		until = time.Now().Add(min(replyTimeout, maxReplyWait-s.stopState.waited))
	}
	_ = s.conn.SetReadDeadline(until) // An error means that the connection has ended.
	return until, endless
}

// clientLeft reports whether the client closed the connection, with err, before everything was sent
// to it.
func (s *ServerConn) clientLeft(err error) bool {
	return s.stopState.goodbyeSent.Load() && !s.stopState.inputRefused && !s.isSendClosed() &&
		!errors.Is(err, os.ErrDeadlineExceeded)
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

// waitReadResume blocks while reading is paused (seam.Session.PauseReading).
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
