// SPDX-License-Identifier: Apache-2.0

package receiver

// The life of a server, from Start to the end of a stop.

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestStop_Unstarted_EndsAtOnce, whether the server has a handler or offers its connections.
func TestStop_Unstarted_EndsAtOnce(t *testing.T) {
	for _, stop := range []func(*testServer) error{
		func(s *testServer) error { return s.Stop(context.Background()) },
		func(s *testServer) error { return s.Shutdown() },
	} {
		for _, offers := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				handle := accepts
				if offers {
					handle = nil
				}
				s := newServerOf(t, Config{}, handle)
				if s.Addr() != nil || s.IsStopping() {
					t.Error("it has begun")
				}
				for range 2 {
					if err := stop(s); err != nil {
						t.Error(err)
					}
				}
				<-s.Finished()
				s.AwaitListened()
				if offers && s.Accept() != nil {
					t.Error("an offer")
				}
				if err := s.Start(); !errors.Is(err, errdefs.ErrStopped) || !s.IsStopping() || s.Failure() != nil {
					t.Errorf("%v, %v", err, s.Failure())
				}
			})
		}
	}
}

func TestStart_Twice_StartsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scriptListener{pipeListener: newPipeListener()}
		s := serverOf(t, Config{Listener: l}, accepts)
		if err := s.Start(); err != nil || s.Addr().String() != "/pipe" || s.IsStopping() {
			t.Errorf("%v, %v", err, s.Addr())
		}
		if synctest.Wait(); len(l.calls) != 1 {
			t.Errorf("%d loops accept", len(l.calls))
		}
	})
}

// TestStop_IdleConnections_AreClosedGracefully, each of them; a second Stop waits for the same end.
func TestStop_IdleConnections_AreClosedGracefully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		a, b := s.dial(), s.dial()
		began := time.Now()
		first, second := s.stops(), s.stops()
		for _, conn := range []*twoWayPipe{a, b} {
			s.hears(conn, "\x00")
			if took := time.Since(began); took != backlogWait {
				t.Errorf("the goodbye comes after %v", took)
			}
		}
		for _, conn := range []*twoWayPipe{a, b} {
			_ = conn.CloseWrite()
			s.hears(conn, string(wire.CloseReport{FirstUnread: 1, Limit: 100}.Append(nil)))
			s.hearsEnd(conn)
		}
		if err := errors.Join(<-first, <-second); err != nil {
			t.Error(err)
		}
		if s.forceCtx.Err() == nil {
			t.Error("the context of the handlers goes on")
		}
		s.noted()
	})
}

// TestStop_HungHandler_ReturnsWithContext: connections are closed without their handler, after a moment of grace.
func TestStop_HungHandler_ReturnsWithContext(t *testing.T) {
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{}, func(string, bool) error { time.Sleep(2 * time.Minute); return nil })
			conn := s.dial()
			if session {
				s.opens(conn, firstHello, wire.Welcome{Limit: 100})
			}
			s.sends(conn, "a")
			began := time.Now()
			stopped := s.stopsWithin(time.Minute)
			want := time.Minute + 20*time.Millisecond // It is stopGrace.
			if session {
				want = time.Minute // Its writer retransmits: there is nothing to say.
			}
			s.hearsEnd(conn)
			if took := time.Since(began); took != want {
				t.Errorf("the connection ends after %v, want %v", took, want)
			}
			var failure *errdefs.Error
			err := <-stopped
			if took := time.Since(began); !errors.As(err, &failure) || failure.Op != errdefs.OpStop || failure.Addr != "x" ||
				!errors.Is(err, context.DeadlineExceeded) || took != time.Minute+stopGrace {
				t.Errorf("%v after %v", err, took)
			}
			<-s.Finished()
			again := s.stopsWithin(0) // What has ended has ended.
			if err := <-again; err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(2 * time.Minute) // The handler returns, and there is no other message.
			s.noted("1 a false")
		})
	}
}

// TestStop_Forced_WithoutConnections_IsNoError: nothing was lost.
func TestStop_Forced_WithoutConnections_IsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		began := time.Now()
		if err := <-s.stopsWithin(0); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		<-s.Finished()
		if _, err := s.listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error("the listener is open")
		}
	})
}

// TestShutdown_ErrorCallback_MayWait: a callback of the accept loop may wait for whoever calls AwaitListened.
func TestShutdown_ErrorCallback_MayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scriptListener{pipeListener: newPipeListener(), script: []any{errAccept}}
		s := newServerOf(t, Config{Listener: l}, accepts)
		inCallback, over := make(chan struct{}), make(chan struct{})
		s.cfg.Report = func(string, string, error) { close(inCallback); <-over }
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		<-inCallback
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		s.AwaitListened()
		close(over)
		synctest.Wait()
		began := time.Now()
		s.AwaitListened() // The callback is over: this waits.
		select {
		case <-s.acceptLoopDone:
		default:
			t.Errorf("it waited for %v, and the listener is not closed", time.Since(began))
		}
		<-s.Finished()
	})
}

// TestOffer_Connection_BelongsToProgram: a stop does not touch it, and ends when it is closed.
func TestOffer_Connection_BelongsToProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{}, nil)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		far := s.dial()
		o := s.Accept()
		if o == nil || o.Peer.ID != 1 {
			t.Fatalf("%+v", o)
		}
		waiting := s.dial() // Nobody accepts this one.
		synctest.Wait()
		stopped := s.stops()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case err := <-stopped:
			t.Fatalf("the stop has ended: %v", err)
		default:
		}
		if o.In.IsClosing() || o.In.IsHalted() {
			t.Error("the connection is being closed")
		}
		s.Abandon()
		s.Abandon()
		s.hearsEnd(waiting)
		if s.Accept() != nil {
			t.Error("an offer after the end")
		}
		s.counted(Counts{Accepted: 2, Open: 1})
		go far.Write([]byte("\x01a")) // Ends with its steps.
		if err := o.In.Fill(); err != nil {
			t.Error(err)
		}
		if data, ok, err := o.In.Next(); !ok || err != nil || string(data) != "a" {
			t.Errorf("%q, %v, %v", data, ok, err)
		}
		o.In.ReleaseBuffer()
		o.ConnClosed()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		s.counted(Counts{Accepted: 2, Received: 1})
	})
}

// TestOffer_RejectedPeer_IsNotOffered, nor told anything: a peer of a conversation expects messages.
func TestOffer_RejectedPeer_IsNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{MaxConnections: 1, Authorizer: func(from *transport.Peer) error {
			if from.ID == 1 {
				return errors.New("no")
			}
			return nil
		}}, nil)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		s.hearsEnd(s.dial())
		synctest.Wait()
		s.dial()
		o := s.Accept()
		s.hearsEnd(s.dial())
		s.noted("authorize connection 1: udsipc: peer is not authorized: no",
			"accept connection 3: udsipc: too many connections: 1 are open")
		o.ConnClosed()
		s.counted(Counts{Accepted: 3, Unauthorized: 1, Refused: 1})
	})
}
