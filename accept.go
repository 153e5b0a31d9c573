// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the goroutine of a Reader that accepts connections, until there is nothing more to accept.

import (
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = 500 * time.Millisecond
	backlogWait    = 5 * time.Millisecond // A listener is empty if Accept has found nothing for so long.
	maxBacklogWait = time.Second          // How long one is emptied for that cannot be shut, and so need never be empty.
)

// run accepts until the listener ends, then waits for the connections.
func (r *Reader) run() {
	defer r.wg.Done()
	r.adopt(r.legacy)
	if err := r.accept(); err != nil {
		r.mu.Lock()
		r.err = withOp(opAccept, r.cfg.where, err)
		r.mu.Unlock()
		r.reportAccept(r.cfg.where, err)
		supervision.mourn(r, err)
		_ = r.stopListening() // The first error is the one that counts.
	}
	r.mu.Lock()
	if !r.handingOver {
		_ = r.listener.Close() // Nobody is waiting in it any more.
	}
	if _, single := r.listener.(*passedConnection); !single {
		r.closeConnsLocked()
	}
	r.mu.Unlock()
	r.passed.release()
	close(r.listened)
	go r.finish() // Ends with the last connection.
}

// finish waits for the connections.
func (r *Reader) finish() {
	r.mu.Lock()
	handingOver := r.handingOver
	r.mu.Unlock()
	if handingOver {
		r.settleHandOver()
	}
	r.offered.Wait()
	close(r.drained)
	r.wg.Wait()
	r.giveUp()
	r.end()
}

// quiesceLocked refuses new connections and lets accept come to the end of those that wait already.
// A socket that systemd passed is left as it is, with its backlog: the next process serves it.
func (r *Reader) quiesceLocked() error {
	listener, hasDeadline := r.listener.(deadliner)
	switch {
	case !hasDeadline:
		time.AfterFunc(backlogWait, func() { r.closeListener(time.Now().Add(maxBacklogWait)) })
		return nil
	case r.passed != nil, r.handingOver:
		return listener.SetDeadline(aLongTimeAgo)
	}
	r.empties = true
	err := r.file.remove() // First: one that is shut looks stale to others.
	switch listener := r.listener.(type) {
	case *net.UnixListener:
		r.shut = r.cfg.listener == nil && shutListener(listener)
	case *net.TCPListener:
		r.filtered = dropConnections(listener)
	}
	return firstError(listener.SetDeadline(time.Now().Add(backlogWait)), err)
}

// A deadliner is a listener whose Accept can be woken.
type deadliner interface{ SetDeadline(time.Time) error }

// closeListener closes a listener without a deadline, whose Accept returns with its end alone, once Accept has found
// nothing for a moment: Close would drop who has connected and written.
func (r *Reader) closeListener(latest time.Time) {
	since := r.accepting.Load()
	now := time.Now()
	switch {
	case r.handling.Err() != nil: // Stop does not wait any longer, and has closed it.
	case since != nil && (now.Sub(*since) >= backlogWait || now.After(latest)):
		_ = r.listener.Close()
	default:
		time.AfterFunc(backlogWait, func() { r.closeListener(latest) })
	}
}

// moreWaiting says, once Accept has failed while the Reader is stopping, whether to try it again. A
// deadline that has passed fails Accept before it looks at the backlog, so when there were
// connections until then there may be more. It ends with latest, because others may join them; nobody does if
// the listener is shut or filtered, and nextWaiting has told then.
func (r *Reader) moreWaiting(err error, admitted int, latest time.Time) bool {
	r.mu.Lock()
	open := r.empties && !r.shut && !r.filtered
	r.mu.Unlock()
	listener, ok := r.listener.(deadliner)
	return ok && open && admitted > 0 && isTimeout(err) && time.Now().Before(latest) &&
		listener.SetDeadline(time.Now().Add(backlogWait)) == nil
}

// nextWaiting returns a connection out of the backlog, once Accept has failed while the Reader is stopping, or nil.
// A deadline that has passed fails Accept before it looks, so this looks without one. Nobody can join
// the backlog, so it comes to an end.
func (r *Reader) nextWaiting() net.Conn {
	r.mu.Lock()
	closed := r.shut || r.filtered
	r.mu.Unlock()
	if !closed {
		return nil
	}
	for {
		conn, err := acceptNow(r.listener, r.awaitDescriptor)
		if err == nil {
			return conn
		}
		if !r.awaitDescriptor(err) {
			return nil
		}
	}
}

// awaitDescriptor says, once something has failed because descriptors or memory have run out while the Reader is
// stopping, whether to try it again: as long as there are connections, whose end gives some back.
func (r *Reader) awaitDescriptor(err error) bool {
	r.mu.Lock()
	again := r.shut && len(r.conns) > 0
	r.mu.Unlock()
	if !again || !outOfResources(err) {
		return false
	}
	timer := time.NewTimer(minAcceptPause)
	defer timer.Stop()
	select {
	case <-r.room:
	case <-timer.C:
	case <-r.handling.Done():
		return false
	}
	return true
}

// accept admits connections. It returns nil when the Reader is stopping, and otherwise the error
// after which it gave up.
func (r *Reader) accept() error {
	failures := 0
	admitted := 1 // So that the backlog is looked at once more, however late this goroutine hears of the end.
	var latest time.Time
	pause := minAcceptPause
	for {
		if !r.awaitRoom() {
			return nil
		}
		conn, err := r.acceptOne()
		if err == nil {
			failures, pause = 0, minAcceptPause
			admitted++
			r.admit(conn, nil)
			continue
		}
		if _, single := r.listener.(*passedConnection); single {
			return nil // It was the only one.
		}
		if r.isStopping() {
			if conn := r.nextWaiting(); conn != nil {
				r.admit(conn, nil)
				continue
			}
			if latest.IsZero() {
				latest = time.Now().Add(maxBacklogWait)
			}
			if r.moreWaiting(err, admitted, latest) {
				admitted = 0
				continue
			}
			return nil
		}
		if isTimeout(err) && r.answer() {
			continue
		}
		r.counts.acceptErrors.Add(1)
		if !outOfResources(err) {
			failures++
		}
		if failures > r.cfg.maxAcceptErrors || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("giving up after %d errors in a row: %w", failures, err)
		}
		r.reportAccept(r.cfg.where, err)
		r.sleep(pause)
		pause = min(2*pause, maxAcceptPause)
	}
}

// acceptOne is the listener's Accept. It notes since when it waits.
func (r *Reader) acceptOne() (net.Conn, error) {
	now := time.Now()
	r.accepting.Store(&now)
	defer r.accepting.Store(nil)
	return r.listener.Accept()
}

func (r *Reader) isStopping() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// answer answers a knock, if there was one, and lets Accept wait again.
func (r *Reader) answer() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.knocked {
		return false
	}
	r.knocked = false
	if listener, ok := r.listener.(deadliner); ok && r.phase == phaseStarted {
		_ = listener.SetDeadline(time.Time{}) // If not, Accept tells.
	}
	select {
	case r.answered <- struct{}{}:
	default:
	}
	return true
}

// sleep pauses, unless the Reader is stopping.
func (r *Reader) sleep(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-r.stopping:
			return
		case <-r.knock:
			r.answer()
		}
	}
}

// awaitRoom waits while as many connections are being refused as may be open: those in the backlog
// can wait longer. It says no when the Reader is given up.
func (r *Reader) awaitRoom() bool {
	for {
		r.mu.Lock()
		full := r.refusing >= r.cfg.maxConnections
		r.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-r.room:
		case <-r.knock:
			r.answer()
		case <-r.handling.Done():
			return false
		}
	}
}
