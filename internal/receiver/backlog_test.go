// SPDX-License-Identifier: Apache-2.0

package receiver

// How a listener is emptied before it is closed.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A wakingListener is a pipeListener with a deadline, and a backlog.
type wakingListener struct {
	*pipeListener
	mu        sync.Mutex // Guards what follows.
	deadlines []time.Time
	changed   chan struct{}
	err       error
}

func newWakingListener(backlog int) *wakingListener {
	return &wakingListener{pipeListener: &pipeListener{conns: make(chan net.Conn, backlog), ended: make(chan struct{})},
		changed: make(chan struct{}, 1)}
}

func (l *wakingListener) SetDeadline(deadline time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadlines = append(l.deadlines, deadline)
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return l.err
}

// Accept fails after the deadline, before it looks at the backlog, as one of package net does.
func (l *wakingListener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		deadline := time.Time{}
		if len(l.deadlines) > 0 {
			deadline = l.deadlines[len(l.deadlines)-1]
		}
		l.mu.Unlock()
		var due <-chan time.Time
		if !deadline.IsZero() {
			if !time.Now().Before(deadline) {
				return nil, fmt.Errorf("accept: %w", os.ErrDeadlineExceeded)
			}
			due = time.After(time.Until(deadline))
		}
		select {
		case conn := <-l.conns:
			return conn, nil
		case <-l.ended:
			return nil, net.ErrClosed
		case <-due:
		case <-l.changed:
		}
	}
}

// TestAccept_StopWithBacklog_ServesIt: a listener is emptied before it is closed, as long as connections come,
// for a second at most.
func TestAccept_StopWithBacklog_ServesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWakingListener(3)
		s := serverOf(t, Config{Listener: l, MaxConnections: 1000}, accepts)
		synctest.Wait()
		far, done := []net.Conn(nil), make(chan struct{})
		go func() { // Ends with the listener.
			defer close(done)
			for {
				near, end := newTwoWayPipe()
				select {
				case l.conns <- near:
					far = append(far, end)
				case <-l.ended:
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
		time.Sleep(time.Millisecond)
		began := time.Now()
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		s.AwaitListened()
		if took := time.Since(began); took < time.Second || took > maxBacklogWait+2*backlogWait {
			t.Errorf("it is emptied for %v, want %v", took, maxBacklogWait)
		}
		<-done
		if got := s.Snapshot().Accepted; got < 490 || got > 510 {
			t.Errorf("%d are accepted", got)
		}
		for _, conn := range far {
			conn.Close()
		}
		<-s.Finished()
	})
}

func TestBacklogNotEmpty_Conditions_AllCount(t *testing.T) {
	timeout := fmt.Errorf("accept: %w", os.ErrDeadlineExceeded)
	later := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		serves, halfClosed, filtered bool

		err      error
		admitted int
		latest   time.Time
		failing  error
		want     bool
	}{
		"more may come":   {true, false, false, timeout, 1, later, nil, true},
		"for the next":    {false, false, false, timeout, 1, later, nil, false},
		"half-closed":     {true, true, false, timeout, 1, later, nil, false},
		"filtered":        {true, false, true, timeout, 1, later, nil, false},
		"another error":   {true, false, false, errAccept, 1, later, nil, false},
		"none came":       {true, false, false, timeout, 0, later, nil, false},
		"too late":        {true, false, false, timeout, 1, time.Now(), nil, false},
		"deadline failed": {true, false, false, timeout, 1, later, errAccept, false},
	} {
		l := &deadlineListener{err: test.failing}
		a := acceptor{server: New(Config{}), listener: l, servesBacklog: test.serves, halfClosed: test.halfClosed,
			filtered: test.filtered}
		if got := a.backlogNotEmpty(test.err, test.admitted, test.latest); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		if test.want && (len(l.deadlines) != 1 || time.Until(l.deadlines[0]) > backlogWait) {
			t.Errorf("%s: the deadlines are %v", name, l.deadlines)
		}
	}
}

// TestAccept_StopIdle_EndsAfterOneLook: an empty backlog ends the loop at once.
func TestAccept_StopIdle_EndsAfterOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWakingListener(0)
		s := serverOf(t, Config{Listener: l}, accepts)
		synctest.Wait()
		began := time.Now()
		if err := <-s.stops(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*backlogWait || len(l.deadlines) != 2 {
			t.Errorf("it takes %v, deadlines %v", took, l.deadlines)
		}
		if _, err := l.Accept(); err == nil {
			t.Error("the listener is open")
		}
		s.noted()
	})
}

func TestAccept_StopDeadlineFails_IsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWakingListener(0)
		s := serverOf(t, Config{Listener: l}, accepts)
		synctest.Wait()
		l.err = errAccept
		if err := <-s.stops(); !errors.Is(err, errAccept) {
			t.Error(err)
		}
	})
}

// TestAccept_StopWithoutDeadline_WaitsForBacklog: a listener that cannot be woken is closed once Accept has
// found nothing for a while.
func TestAccept_StopWithoutDeadline_WaitsForBacklog(t *testing.T) {
	for _, late := range []time.Duration{0, 3 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{}, accepts)
			time.Sleep(time.Minute)
			began := time.Now()
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			want := 5 * time.Millisecond // It is backlogWait.
			if late > 0 {
				time.Sleep(late)
				s.dial().Close() // Accept begins again.
				want *= 2
			}
			s.AwaitListened()
			if took := time.Since(began); took != want {
				t.Errorf("it is closed after %v, want %v", took, want)
			}
			<-s.Finished()
		})
	}
}

// TestAccept_StopWithoutDeadline_EndsAtLatest, though connections come all the time.
func TestAccept_StopWithoutDeadline_EndsAtLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxConnections: 10000}, accepts)
		done := make(chan struct{})
		go func() { // Ends with the listener.
			defer close(done)
			for {
				near, far := newTwoWayPipe()
				select {
				case s.listener.conns <- near:
					far.Close()
				case <-s.listener.ended:
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Millisecond / 2)
		began := time.Now()
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		s.AwaitListened()
		if took := time.Since(began); took < maxBacklogWait || took > maxBacklogWait+3*backlogWait {
			t.Errorf("it is closed after %v", took)
		}
		<-s.Finished()
		<-done
	})
}
