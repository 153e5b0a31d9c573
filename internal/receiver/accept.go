// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the accept loop of a server, until there is nothing more to accept.

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
)

const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = 500 * time.Millisecond
	backlogWait    = 5 * time.Millisecond // A backlog is empty if Accept has found nothing for this time.
	maxBacklogWait = time.Second          // How long a listener is emptied that still accepts connections.
)

// An acceptor has the sources of a server's connections. The server's mutex guards the fields that
// change when it stops.
type acceptor struct {
	server        *Server
	listener      net.Listener
	file          *socket.File
	passed        *systemd.Passed
	inherited     *inheritedState           // State of an earlier process, until it is adopted.
	acceptSince   atomic.Pointer[time.Time] // Start of the present Accept; nil outside of one.
	halfClosed    bool                      // The listener refuses new connections.
	servesBacklog bool                      // The backlog is served before the listener is closed.
	filtered      bool                      // The kernel drops new connection requests.
	triedAlone    bool                      // An attempt to accept has failed although no connection was open.
}

// quiesceLocked refuses new connections, and lets the accept loop serve the backlog. A socket that
// systemd passed is left unchanged, with its backlog: the next process serves it.
func (a *acceptor) quiesceLocked() error {
	listener, hasDeadline := a.listener.(deadliner)
	switch {
	case !hasDeadline:
		time.AfterFunc(backlogWait, func() { a.closeListener(time.Now().Add(maxBacklogWait)) })
		return nil
	case a.passed != nil, a.server.handingOver:
		return listener.SetDeadline(transport.PastDeadline)
	}
	a.servesBacklog = true
	// First: a socket that refuses connections looks stale to other processes.
	err := a.file.Remove()
	switch listener := a.listener.(type) {
	case *net.UnixListener:
		a.halfClosed = a.server.cfg.Listener == nil && socket.HalfCloseListener(listener)
	case *net.TCPListener:
		a.filtered = socket.FilterNewConnections(listener)
	}
	return errdefs.First(listener.SetDeadline(time.Now().Add(backlogWait)), err)
}

// closeListener closes a listener without a deadline after its backlog is served: Close would drop
// connections that have written already. Accept of such a listener returns only when it is closed.
func (a *acceptor) closeListener(latest time.Time) {
	since := a.acceptSince.Load()
	now := time.Now()
	switch {
	case a.server.forceCtx.Err() != nil: // The stop was forced, and has closed it.
	case since != nil && (now.Sub(*since) >= backlogWait || now.After(latest)):
		_ = a.listener.Close()
	default:
		time.AfterFunc(backlogWait, func() { a.closeListener(latest) })
	}
}

// backlogNotEmpty reports, once Accept has failed while the Reader is stopping, whether to try again. A
// deadline that has passed fails Accept before it looks at the backlog, so if there were connections
// until then, there may be more. It ends at latest, because new ones may come. None come to a listener that is
// half-closed or filtered, which acceptFromBacklog has emptied.
func (a *acceptor) backlogNotEmpty(err error, admitted int, latest time.Time) bool {
	a.server.mu.Lock()
	open := a.servesBacklog && !a.halfClosed && !a.filtered
	a.server.mu.Unlock()
	listener, ok := a.listener.(deadliner)
	return ok && open && admitted > 0 && transport.IsTimeout(err) && time.Now().Before(latest) &&
		listener.SetDeadline(time.Now().Add(backlogWait)) == nil
}

// acceptFromBacklog returns a connection of the backlog, or nil, after Accept failed while the
// Reader stops. A deadline in the past makes Accept fail before it looks, so the deadline is not
// used here. No new connections arrive, so the backlog comes to an end.
func (a *acceptor) acceptFromBacklog() net.Conn {
	a.server.mu.Lock()
	closed := a.halfClosed || a.filtered
	a.server.mu.Unlock()
	if !closed {
		return nil
	}
	for {
		conn, err := socket.AcceptNow(a.listener, a.waitForDescriptor)
		if err == nil {
			return conn
		}
		if !a.waitForDescriptor(err) {
			return nil
		}
	}
}

// waitForDescriptor reports whether to try again after an operation failed for lack of descriptors
// or memory while the Reader stops. It waits for the end of a connection, which frees some, as long
// as there are connections.
func (a *acceptor) waitForDescriptor(err error) bool {
	a.server.mu.Lock()
	open := len(a.server.conns.all) > 0
	again := a.halfClosed && (open || !a.triedAlone)
	a.triedAlone = !open // The last connection may have ended between the attempt and this.
	a.server.mu.Unlock()
	if !again || !socket.OutOfResources(err) {
		return false
	}
	timer := time.NewTimer(minAcceptPause)
	defer timer.Stop()
	select {
	case <-a.server.conns.connEnded:
	case <-timer.C:
	case <-a.server.forceCtx.Done():
		return false
	}
	return true
}

// accept admits connections. It returns nil when the Reader stops, else the error after which it
// gave up.
func (a *acceptor) accept() error {
	failures := 0
	admitted := 1 // The backlog is checked once more, however late the loop sees the stop.
	var latest time.Time
	pause := minAcceptPause
	for {
		if !a.server.waitForSlot() {
			return nil
		}
		conn, err := a.acceptOne()
		if err == nil {
			failures, pause = 0, minAcceptPause
			admitted++
			a.server.admit(conn, nil)
			continue
		}
		if a.isSingle() {
			return nil // The only connection was admitted.
		}
		if a.server.IsStopping() {
			if conn := a.acceptFromBacklog(); conn != nil {
				a.server.admit(conn, nil)
				continue
			}
			if latest.IsZero() {
				latest = time.Now().Add(maxBacklogWait)
			}
			if a.backlogNotEmpty(err, admitted, latest) {
				admitted = 0
				continue
			}
			return nil
		}
		if transport.IsTimeout(err) && a.server.health.reply() {
			continue
		}
		a.server.counts.acceptErrors.Add(1)
		if !socket.OutOfResources(err) {
			failures++
		}
		if failures > a.server.cfg.MaxAcceptErrors || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("giving up after %d errors in a row: %w", failures, err)
		}
		a.server.reportAccept(a.server.cfg.AddrText, err)
		a.sleep(pause)
		pause = min(2*pause, maxAcceptPause)
	}
}

// acceptOne calls Accept, and records when it began.
func (a *acceptor) acceptOne() (net.Conn, error) {
	now := time.Now()
	a.acceptSince.Store(&now)
	defer a.acceptSince.Store(nil)
	return a.listener.Accept()
}

// sleep pauses, unless the Reader stops.
func (a *acceptor) sleep(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-a.server.stopping:
			return
		case <-a.server.health.asked:
			a.server.health.reply()
		}
	}
}

// isSingle reports whether systemd has accepted a single connection for this process (Accept=yes).
func (a *acceptor) isSingle() bool {
	return systemd.OnlyConnection(a.listener) != nil
}
