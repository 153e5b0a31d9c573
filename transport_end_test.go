// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// How a connection that is read from comes to its end, and what it says then.

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// heard collects what the connection says to its peer, until that is asked for.
func (in testIn) heard() func() string {
	said := make(chan string, 1)
	go func() { // Ends with the connection.
		b, _ := io.ReadAll(in.peer)
		said <- string(b)
	}()
	return func() string {
		in.Helper()
		in.Close()
		return <-said
	}
}

// wantEnd wants a Fill to end with an error, after so long.
func (in testIn) wantEnd(after time.Duration, want error) {
	in.Helper()
	began := time.Now()
	err := in.Fill()
	if took := time.Since(began); !errors.Is(err, want) || took != after {
		in.Errorf("ended with %v after %v, want %v after %v", err, took, want, after)
	}
}

func (in testIn) wantTimeout(after time.Duration) {
	in.Helper()
	began := time.Now()
	if err := in.Fill(); !isTimeoutError(err) || time.Since(began) != after {
		in.Errorf("ended with %v after %v, want a timeout after %v", err, time.Since(began), after)
	}
}

func TestInEndsForItsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inOf(t, udsipc.InLimits{Idle: 3 * time.Second}).wantTimeout(3 * time.Second)
		inOf(t, udsipc.InLimits{Idle: 9 * time.Second, FirstMessage: 2 * time.Second}).wantTimeout(2 * time.Second)
		in := inOf(t, udsipc.InLimits{Idle: 9 * time.Second, Frame: 4 * time.Second})
		in.comes("\x05a")
		in.gives()
		time.Sleep(time.Second)
		in.comes("b")
		in.gives()
		in.wantEnd(4*time.Second, udsipc.ErrTooSlow)
		in = inOf(t, udsipc.InLimits{})
		in.Begin(0, 0, 0, 2*time.Second)
		in.wantEnd(2*time.Second, udsipc.ErrHeartbeatTimeout)
	})
}

// TestInIsKeptOpen while this side is busy for the peer.
func TestInIsKeptOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{Idle: time.Second})
		asked := 0
		in.KeepOpenIf(func() bool { asked++; return asked < 4 })
		in.wantTimeout(4 * time.Second)
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestInOfADeadline: that of its reader, set before a wait or in it, and taken back.
func TestInOfADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{Idle: 10 * time.Second})
		limit := func(after time.Duration) {
			t.Helper()
			if err := in.LimitTo(time.Now().Add(after)); err != nil {
				t.Error(err)
			}
		}
		limit(2 * time.Second)
		in.wantTimeout(2 * time.Second)
		in.wantTimeout(0)
		limit(time.Second)
		time.AfterFunc(500*time.Millisecond, func() { limit(3 * time.Second) })
		in.wantTimeout(3500 * time.Millisecond)
		time.AfterFunc(500*time.Millisecond, func() { limit(time.Second) })
		limit(5 * time.Second)
		in.wantTimeout(1500 * time.Millisecond)
		if err := in.LimitTo(time.Time{}); err != nil {
			t.Error(err)
		}
		in.wantTimeout(10 * time.Second)
	})
}

// TestInClosesGracefully: a goodbye, all that comes within a second of it, or five once something has come, and the
// report at the end.
func TestInClosesGracefully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{Message: 9})
		said := in.heard()
		in.comes(framed("a"))
		in.gives("a")
		time.AfterFunc(time.Second, func() { in.RequestClose(3); in.RequestClose(5) })
		in.wantEnd(2*time.Second, udsipc.ErrEnded)
		if closing, halted, _ := in.States(); !closing || halted {
			t.Error("it does not say that it is closing")
		}
		in.Farewell()
		in.Farewell()
		if got, want := said(), "\x00"+string(udsipc.EndReport{Reason: 3, Next: 2, Limit: 9}.Bytes()); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}

		in = inOf(t, udsipc.InLimits{Message: 9})
		in.heard()
		in.RequestClose(0)
		go func() { // Ends with its steps.
			time.Sleep(900 * time.Millisecond)
			_, _ = in.peer.Write([]byte(framed("b")))
		}()
		if err := in.Fill(); err != nil {
			t.Error(err)
		}
		in.gives("b")
		time.Sleep(time.Hour) // The handler's time does not count.
		in.wantEnd(5*time.Second, udsipc.ErrEnded)

		in = inOf(t, udsipc.InLimits{Message: 9})
		in.heard()
		in.RequestClose(0)
		go func() { // Ends with the connection.
			for {
				time.Sleep(900 * time.Millisecond)
				if _, err := in.peer.Write([]byte(framed("b"))); err != nil {
					return
				}
			}
		}()
		began := time.Now()
		for in.Fill() == nil {
			in.gives("b")
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it waits for %v in all", took)
		}
		in.Close()
		time.Sleep(time.Second)
	})
}

// TestInReadsNoMoreThanAPeerHas: what comes after the goodbye is bounded in bytes, too.
func TestInReadsNoMoreThanAPeerHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, limit = 16 << 20, 1000
		in := inOf(t, udsipc.InLimits{Message: limit, Read: 1 << 20})
		in.heard()
		in.RequestClose(0)
		piece := make([]byte, 1<<20) // Empty messages.
		go func() {                  // Ends with the connection.
			for {
				if _, err := in.peer.Write(piece); err != nil {
					return
				}
			}
		}()
		var err error
		for err == nil {
			if err = in.Fill(); err == nil {
				for ok := true; ok; {
					_, ok, _ = in.Next()
				}
			}
		}
		if got := in.Received(); err != udsipc.ErrEnded || got <= bound+limit || got > bound+limit+1<<20 {
			t.Errorf("%d bytes came before %v", got, err)
		}
	})
}

// TestInReports what it has read, once, in each way to end.
func TestInReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			what   string
			l      udsipc.InLimits
			act    func(in testIn)
			report udsipc.EndReport
		}{
			{"nothing came", udsipc.InLimits{}, func(in testIn) { in.AnswerEnd() }, udsipc.EndReport{Next: 1}},
			{"rejected", udsipc.InLimits{}, func(in testIn) { in.Reject(2) }, udsipc.EndReport{Reason: 2, Next: 1}},
			{"rejected, then closed", udsipc.InLimits{}, func(in testIn) { in.Reject(2); in.RequestClose(1); in.Reject(1) }, udsipc.EndReport{Reason: 2, Next: 1}},
			{"two messages, and a third", udsipc.InLimits{}, func(in testIn) {
				in.comes(framed("a") + framed("b") + framed("c"))
				in.Next()
				in.Next()
				in.AnswerEnd()
				in.AnswerEnd()
			}, udsipc.EndReport{Next: 3}},
			{"one passed over", udsipc.InLimits{Message: 3}, func(in testIn) {
				in.comes(framed("a") + framed("1234") + framed("c"))
				for range 4 {
					in.Next()
				}
				in.AnswerEnd()
			}, udsipc.EndReport{Next: 4, Skipped: 1, Limit: 3}},
			{"one passed over in part", udsipc.InLimits{Message: 3}, func(in testIn) {
				in.comes(framed("a") + "\x04ab")
				for range 4 {
					in.Next()
				}
				in.AnswerEnd()
			}, udsipc.EndReport{Next: 2, Limit: 3}},
			{"inherited", udsipc.InLimits{Inherited: true}, func(in testIn) {
				in.comes(framed("a") + framed("b") + framed("c") + "\x05")
				in.Next()
				in.AnswerEnd()
			}, udsipc.EndReport{Skipped: 2}},
		} {
			in := inOf(t, test.l)
			said := in.heard()
			test.act(in)
			if test.report.Limit == 0 {
				test.report.Limit = 1 << 30
			}
			if got, want := said(), "\x00"+string(test.report.Bytes()); got != want {
				t.Errorf("%s: it says % x, want % x", test.what, got, want)
			}
		}
		in := inOf(t, udsipc.InLimits{})
		said := in.heard()
		session := in.Begin(0, 0, 0, 0)
		in.AnswerEnd()
		in.Farewell()
		in.Farewell()
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		if got := said(); got != "\x00" {
			t.Errorf("in a session it says % x", got)
		}
	})
}

// TestInOfAPeerThatDoesNotListen: the last words wait for a tenth of a second.
func TestInOfAPeerThatDoesNotListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{})
		began := time.Now()
		in.Reject(1)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waits for %v", took)
		}
	})
}

// TestInCannotBeHandedOver if it is no socket.
func TestInCannotBeHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{})
		if err := in.HandOverError(); err != nil {
			t.Error(err)
		}
		in.RequestHandOver()
		if err := in.HandOverError(); err == nil || err.Error() != "not a plain Unix or TCP socket (TLS or in-memory)" {
			t.Error(err)
		}
		if closing, _, _ := in.States(); !closing {
			t.Error("it stays open")
		}
	})
}

// TestSessionAcknowledges what is handled: when it waits, after so many messages or bytes, or so long, and at the end.
func TestSessionAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{Message: 1000})
		heard := make(chan string, 100)
		go func() { // Ends with the connection.
			for b := make([]byte, 100); ; {
				n, err := in.peer.Read(b)
				if err != nil {
					return
				}
				heard <- string(b[:n])
			}
		}()
		hears := func(want ...string) {
			t.Helper()
			synctest.Wait()
			for _, want := range want {
				select {
				case got := <-heard:
					if got != want {
						t.Errorf("it says % x, want % x", got, want)
					}
				default:
					t.Errorf("it does not say % x", want)
				}
			}
			select {
			case got := <-heard:
				t.Errorf("it says % x", got)
			default:
			}
		}
		s := in.Begin(10, 12, 0, 3*time.Second)
		if _, _, acks := in.States(); !acks || s.Seq() != 10 {
			t.Error("no session")
		}
		s.Welcome()
		hears(string(udsipc.Welcome{Handled: 10, Limit: 1000, Silence: 3 * time.Second}.Bytes()))
		s.Acknowledge()
		hears()
		in.comes(framed("a") + framed("b") + framed("c") + framed("d"))
		hears()
		s.Busy()
		in.Next()
		if s.Seq() != 11 || !s.Repeated() {
			t.Errorf("message %d", s.Seq())
		}
		s.Count()
		time.Sleep(10 * time.Millisecond)
		hears() // The first one is being handled.
		in.Next()
		if s.Seq() != 12 || !s.Repeated() {
			t.Errorf("message %d", s.Seq())
		}
		time.Sleep(10 * time.Millisecond)
		hears("\x0b")
		time.Sleep(10 * time.Millisecond)
		hears()
		in.Next()
		if s.Repeated() || s.Repeated() {
			t.Errorf("message %d may be repeated", s.Seq())
		}
		s.Failed()
		s.Idle()
		hears()
		s.Acknowledge()
		hears("\x0c")
		s.Handled()
		s.Acknowledge()
		hears("\x0d")
		time.Sleep(time.Second)
		hears()
		in.Next()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		hears("\x0e")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		hears()
		if c := in.Acknowledged(); c != 4 {
			t.Errorf("%d acknowledged", c)
		}
	})
}

// TestSessionAcknowledgesByCount: after 2,048 messages, or 256 KiB.
func TestSessionAcknowledgesByCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{Read: 1 << 20})
		said := in.heard()
		s := in.Begin(0, 0, 0, 0)
		empty := string(make([]byte, 5000))
		for got := 0; got < len(empty); {
			in.comes(empty[got:min(got+512, len(empty))])
			for ; in.Midway() > 0; got++ {
				if _, ok, err := in.Next(); !ok {
					t.Fatal(err)
				}
				s.Count()
				if want := uint64((got + 1) / 2048 * 2048); want > 0 && want == uint64(got+1) && in.Acknowledged() > want-1 {
					t.Errorf("%d are acknowledged at %d", in.Acknowledged(), got)
				}
			}
		}
		if got := in.Acknowledged(); got < 4096-1 {
			t.Errorf("%d are acknowledged", got)
		}
		before := in.Acknowledged()
		for range 300 {
			s.Busy()
			in.comes(framed(string(make([]byte, 1022))))
			in.Next()
			s.Idle()
		}
		if got := in.Acknowledged(); got == before {
			t.Error("nothing is acknowledged after 300 KiB")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		said()
	})
}

// TestSessionBeats as often as the writer wants to hear something.
func TestSessionBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{})
		said := in.heard()
		s := in.Begin(0, 0, time.Second, 0)
		time.Sleep(3500 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		if got := said(); got != "\x80\x00\x80\x00\x80\x00" {
			t.Errorf("it says % x", got)
		}
	})
}

// TestSessionOfAWriterThatDoesNotListen ends after a second.
func TestSessionOfAWriterThatDoesNotListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, udsipc.InLimits{})
		s := in.Begin(0, 0, 0, 0)
		in.comes(framed("a"))
		began := time.Now()
		in.Next()
		err := s.Close()
		if !errors.Is(err, udsipc.ErrBackpressure) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, halted, _ := in.States(); !halted {
			t.Error("the connection goes on")
		}
	})
}
