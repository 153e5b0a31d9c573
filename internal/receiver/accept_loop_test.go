// SPDX-License-Identifier: Apache-2.0

package receiver

// The accept loop over listeners that fail, are slow to end, or have a deadline.

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A scriptListener has Accept return the results of a script, with the times of the calls, and then wait for its end.
type scriptListener struct {
	*pipeListener
	script []any // Errors and connections.
	calls  []time.Time
}

func (l *scriptListener) Accept() (net.Conn, error) {
	l.calls = append(l.calls, time.Now())
	if len(l.script) == 0 {
		return l.pipeListener.Accept()
	}
	next := l.script[0]
	l.script = l.script[1:]
	if conn, ok := next.(net.Conn); ok {
		return conn, nil
	}
	return nil, next.(error)
}

// errAccept is an error of Accept.
var errAccept = errors.New("no")

// TestAccept_Failures_PauseLonger, up to a limit; a connection begins it anew.
func TestAccept_Failures_PauseLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scriptListener{pipeListener: newPipeListener()}
		for range 9 {
			l.script = append(l.script, errAccept)
		}
		near, far := newTwoWayPipe()
		defer far.Close()
		l.script = append(l.script, near, errAccept)
		s := serverOf(t, Config{Listener: l, MaxAcceptErrors: 9}, accepts)
		time.Sleep(time.Minute)
		synctest.Wait()
		var pauses []int64
		for i := range l.calls[1:] {
			pauses = append(pauses, l.calls[i+1].Sub(l.calls[i]).Milliseconds())
		}
		if want := []int64{5, 10, 20, 40, 80, 160, 320, 500, 500, 0, 5}; !slices.Equal(pauses, want) {
			t.Errorf("the pauses are %d, want %d", pauses, want)
		}
		s.counted(Counts{Accepted: 1, Open: 1, AcceptErrors: 10})
		if s.Failure() != nil || s.IsStopping() || s.inCallback.Load() {
			t.Error("it has given up")
		}
		s.noted(slices.Repeat([]string{"accept x: no"}, 10)...)
	})
}

// TestAccept_TooManyFailures_EndsServer: the error is kept and reported, and open connections are closed gracefully.
func TestAccept_TooManyFailures_EndsServer(t *testing.T) {
	for name, test := range map[string]struct {
		script []any
		errors uint64
		after  time.Duration
		want   string
	}{
		"in a row": {[]any{errAccept, errAccept, errAccept}, 3, 15 * time.Millisecond,
			"giving up after 3 errors in a row: no"},
		"closed": {[]any{errAccept, net.ErrClosed}, 2, 5 * time.Millisecond,
			"giving up after 2 errors in a row: use of closed network connection"},
		"descriptors": {[]any{errAccept, syscall.EMFILE, syscall.ENFILE, errAccept, errAccept}, 5, 75 * time.Millisecond,
			"giving up after 3 errors in a row: no"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := newTwoWayPipe()
				l := &scriptListener{pipeListener: newPipeListener(), script: append([]any{near}, test.script...)}
				began := time.Now()
				s := serverOf(t, Config{Listener: l, MaxAcceptErrors: 2}, accepts)
				s.hears(far, "\x00")
				if took := time.Since(began); took != test.after {
					t.Errorf("it gives up after %v, want %v", took, test.after)
				}
				select {
				case <-s.Finished():
					t.Error("it has ended before its connection")
				default:
				}
				s.sends(far, "a")
				_ = far.CloseWrite()
				s.hears(far, string(wire.CloseReport{FirstUnread: 2, Limit: 100}.Append(nil)))
				<-s.Finished()
				var failure *errdefs.Error
				if err := s.Failure(); !errors.As(err, &failure) || failure.Op != errdefs.OpAccept || failure.Addr != "x" ||
					failure.Err.Error() != test.want {
					t.Errorf("the failure is %v, want %q", err, test.want)
				}
				s.counted(Counts{Accepted: 1, Received: 1, AcceptErrors: test.errors})
				if s.Stop(t.Context()) != nil || !s.IsStopping() || !errors.Is(s.Start(), errdefs.ErrStopped) {
					t.Error("it is not stopped")
				}
			})
		})
	}
}

// TestAccept_StopDuringPause_EndsAtOnce: the loop does not wait for the end of a pause.
func TestAccept_StopDuringPause_EndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scriptListener{pipeListener: newPipeListener(), script: slices.Repeat([]any{errAccept}, 8)}
		s := serverOf(t, Config{Listener: l}, accepts)
		time.Sleep(time.Second) // In the last pause, of 500 ms.
		began := time.Now()
		if err := <-s.stops(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*backlogWait {
			t.Errorf("the stop takes %v", took)
		}
	})
}

// TestAccept_HealthCheck_IsAnswered in each of its waits: in Accept, in a pause, and while no connection more
// is admitted.
func TestAccept_HealthCheck_IsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWakingListener(0)
		s := serverOf(t, Config{Listener: l, MaxConnections: 1}, accepts)
		alive := func(where string) {
			t.Helper()
			synctest.Wait()
			began := time.Now()
			if !s.IsAlive(time.Second) || time.Since(began) != 0 {
				t.Errorf("no answer in %s", where)
			}
		}
		alive("Accept")
		s.listener = l.pipeListener
		s.dial()
		over := s.dial() // As many are being rejected as may be open.
		synctest.Wait()
		alive("the wait for a slot")
		if want := []time.Time{transport.PastDeadline, {}, transport.PastDeadline, {}}; !slices.Equal(l.deadlines, want) {
			t.Errorf("the deadlines are %v", l.deadlines)
		}
		third := make(chan struct{})
		go func() { s.dial(); close(third) }() // Ends when it is accepted.
		synctest.Wait()
		select {
		case <-third:
			t.Error("a connection is accepted beside one that is being rejected")
		default:
		}
		over.Close()
		<-third
		s.counted(Counts{Accepted: 3, Refused: 2, Open: 2})
	})
}

// TestAccept_HealthCheckInPause_IsAnswered, and the pause goes on.
func TestAccept_HealthCheckInPause_IsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newWakingListener(0)
		s := newServerOf(t, Config{Listener: l}, accepts)
		s.health.begin(l)
		began := time.Now()
		slept := make(chan time.Duration, 1)
		go func() { s.acceptor.sleep(time.Second); slept <- time.Since(began) }() // Ends with the pause.
		synctest.Wait()
		if !s.IsAlive(time.Second) || time.Since(began) != 0 {
			t.Error("no answer")
		}
		if took := <-slept; took != time.Second {
			t.Errorf("the pause takes %v", took)
		}
	})
}

// TestAccept_DeadlineUnasked_IsError: one that nobody asked for counts as any other error.
func TestAccept_DeadlineUnasked_IsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scriptListener{pipeListener: newPipeListener(), script: []any{os.ErrDeadlineExceeded}}
		s := serverOf(t, Config{Listener: l}, accepts)
		time.Sleep(time.Second)
		s.noted("accept x: i/o timeout")
		s.counted(Counts{AcceptErrors: 1})
	})
}
