// SPDX-License-Identifier: Apache-2.0

package receiver

// What a handler of batches gets and when, with a fake clock.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testBatch has the texts of its messages; redelivered ones have a star.
type testBatch struct {
	messages []string
	handle   func(ctx context.Context, texts string) error
}

func (b *testBatch) Handle(ctx context.Context) error {
	return b.handle(ctx, strings.Join(b.messages, " "))
}
func (b *testBatch) Clear() { b.messages = nil }
func (b *testBatch) Free()  { b.handle = nil }

// batchServer returns a server with batches that notes each of them, and what becomes dead letters.
func batchServer(t *testing.T, cfg Config, handle func(ctx context.Context, texts string) error) *testServer {
	t.Helper()
	var s *testServer
	if cfg.Batches.Max == 0 {
		cfg.Batches.Max = 100
	}
	cfg.Batches.New = func() Batch {
		return &testBatch{handle: func(ctx context.Context, texts string) error {
			s.note(texts)
			return handle(ctx, texts)
		}}
	}
	cfg.Open = func(from *transport.Peer) Sink {
		return Sink{
			Add: func(to Batch, data []byte, seq uint64, redelivered bool) {
				text := fmt.Sprintf("%d.%d%s", from.ID, seq, data)
				if redelivered {
					text += "*"
				}
				b := to.(*testBatch)
				b.messages = append(b.messages, text)
			},
			DeadLetter: func(data []byte, seq uint64, err error) { s.note(fmt.Sprintf("dead %d%s: %v", seq, data, err)) },
		}
	}
	s = newServerOf(t, cfg, nil)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func succeed(context.Context, string) error { return nil }

// failsFor returns a handler that fails for each batch with one of these texts.
func failsFor(texts ...string) func(context.Context, string) error {
	return func(_ context.Context, batch string) error {
		for _, text := range texts {
			if strings.Contains(batch, text) {
				return errors.New("no " + text)
			}
		}
		return nil
	}
}

// after wants the next event only when this time has passed.
func (s *testServer) after(d time.Duration, want string) {
	s.Helper()
	time.Sleep(d - 1)
	s.noted()
	time.Sleep(time.Nanosecond)
	s.noted(want)
}

func frames(texts ...string) (b []byte) {
	for _, text := range texts {
		b = wire.AppendFrame(b, []byte(text))
	}
	return b
}

// TestBatch_WithoutWait_HasWhatIsThere, at most Max of it.
func TestBatch_WithoutWait_HasWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Max: 3}}, succeed)
		conn := s.dial()
		s.writes(conn, frames("a", "b", "c", "d", "e", "f", "g"))
		s.noted("1.1a 1.2b 1.3c", "1.4d 1.5e 1.6f", "1.7g")
		s.sends(conn, "h", "")
		s.noted("1.8h", "1.9")
		s.counted(Counts{Accepted: 1, Received: 9, Batches: 5, Open: 1})
	})
}

// TestBatch_Wait_EndsInTime: from the first message on, or when the batch is full, or when no more can
// come.
func TestBatch_Wait_EndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Max: 3, Wait: time.Second}}, succeed)
		conn := s.dial()
		s.sends(conn, "a")
		time.Sleep(600 * time.Millisecond)
		s.sends(conn, "b")
		s.after(400*time.Millisecond, "1.1a 1.2b")
		s.writes(conn, append(frames("c", "d"), 5, 'e')) // A part of a message does not count.
		s.after(time.Second, "1.3c 1.4d")
		s.writes(conn, []byte("fghi"))
		s.sends(conn, "j")
		s.noted()
		s.sends(conn, "k")
		s.noted("1.5efghi 1.6j 1.7k")
		s.sends(conn, "l")
		_ = conn.CloseWrite()
		s.noted("1.8l")
		s.hearsReport(conn, wire.CloseReport{FirstUnread: 9, Limit: 100})
		s.hearsEnd(conn)
	})
}

// TestBatch_WaitFrom_HandsFewBytesOver at once, and has more wait, from then on. A frame here has 2 bytes.
func TestBatch_WaitFrom_HandsFewBytesOver(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := batchServer(t, Config{Batches: &Batches{Wait: time.Second, WaitFrom: 6, Shared: shared}}, succeed)
			conn := s.dial()
			s.sends(conn, "a")
			s.noted("1.1a")
			s.writes(conn, frames("b", "c"))
			s.noted("1.2b 1.3c")
			s.writes(conn, frames("d", "e", "f"))
			s.noted()
			s.sends(conn, "g")
			s.after(time.Second, "1.4d 1.5e 1.6f 1.7g")
			s.sends(conn, "h")
			s.noted("1.8h")
			if shared { // Who does not wait takes the others along.
				other := s.dial()
				s.writes(conn, frames("i", "j", "k"))
				s.noted()
				s.sends(other, "x")
				s.noted("2.1x 1.9i 1.10j 1.11k")
			}
		})
	}
}

// TestBatch_WaitLongerThanTimeouts_KeepsConnection: gathered messages are whole ones, and a wait for
// more is no idle time of the connection before that.
func TestBatch_WaitLongerThanTimeouts_KeepsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Wait: time.Hour}, In: transport.Limits{
			MessageTimeout: time.Second, FirstMessageTimeout: time.Second,
		}}, succeed)
		conn := s.dial()
		s.sends(conn, "a")
		s.after(time.Hour, "1.1a")
		s.writes(conn, append(frames("b"), 2, 'c'))
		go io.Copy(io.Discard, conn)
		time.Sleep(time.Second)
		s.noted("1.2b", "read connection 1: udsipc: peer is too slow: message incomplete after 1s: 2 bytes received")
	})
	synctest.Test(t, func(t *testing.T) { // Inactivity.
		s := batchServer(t, Config{
			Batches: &Batches{Wait: time.Hour}, In: transport.Limits{IdleTimeout: time.Minute},
		}, succeed)
		conn := s.dial()
		s.sends(conn, "a")
		go io.Copy(io.Discard, conn)
		s.after(time.Minute, "1.1a")
		if n := s.Snapshot(); n.IdleClosed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestBatch_Stop_DoesNotWait: what was gathered is handled, what comes until the end of the connection
// too, and the report counts both.
func TestBatch_Stop_DoesNotWait(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := batchServer(t, Config{Batches: &Batches{Wait: time.Hour, Shared: shared}}, succeed)
			conn := s.dial()
			s.writes(conn, frames("a", "b"))
			s.noted()
			stopped := s.stops()
			s.hears(conn, "\x00")
			s.noted("1.1a 1.2b")
			s.sends(conn, "c")
			_ = conn.CloseWrite()
			s.hears(conn, string(wire.CloseReport{FirstUnread: 4, Limit: 100}.Append(nil)))
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			s.noted("1.3c")
		})
	}
}

// TestBatch_ForcedStop_DiscardsGathered: plain messages that were read and not handed over are counted.
func TestBatch_ForcedStop_DiscardsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handling, ended := make(chan struct{}), make(chan struct{})
		s := batchServer(t, Config{Batches: &Batches{Max: 2, Shared: true}}, func(ctx context.Context, _ string) error {
			close(handling)
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		})
		first, second := s.dial(), s.dial()
		go io.Copy(io.Discard, first)
		go io.Copy(io.Discard, second)
		s.writes(first, frames("a", "b", "c"))
		<-handling
		s.writes(second, frames("d", "e"))
		synctest.Wait()
		began := time.Now()
		<-s.stopsWithin(time.Second)
		<-ended
		if took := time.Since(began); took != time.Second {
			t.Errorf("it takes %v", took)
		}
		synctest.Wait()
		slices.Sort(s.events) // The connections end at once.
		s.noted("1.1a 1.2b", "handle connection 1: batch of 2 messages: udsipc: handler failed: context canceled",
			"stop connection 1: udsipc: stopped: 1 message was read and not handled",
			"stop connection 2: udsipc: stopped: 2 messages were read and not handled")
		s.counted(Counts{Accepted: 2, Received: 2, Batches: 1, HandlerErrors: 2, Discarded: 3})
	})
}

// TestBatch_StuckHandler_DoesNotHoldStop: Stop returns, and nothing is handed over when the handler
// returns at last.
func TestBatch_StuckHandler_DoesNotHoldStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		s := batchServer(t, Config{MaxRedeliveries: 1, Batches: &Batches{Max: 1, Shared: true}},
			func(context.Context, string) error { <-stuck; return errors.New("late") })
		first, second := s.dial(), s.dial()
		s.opens(first, firstHello, wire.Welcome{Limit: 100})
		s.writes(first, frames("a", "b"))
		synctest.Wait() // The handler has a.
		s.writes(second, frames("c"))
		synctest.Wait()
		if err := <-s.stopsWithin(time.Second); err == nil {
			t.Error("no error")
		}
		close(stuck)
		synctest.Wait()
		slices.Sort(s.events)
		s.noted("1.1a", "handle connection 1: udsipc: handler failed: late",
			"stop connection 2: udsipc: stopped: 1 message was read and not handled")
	})
}

// TestBatch_Failure_IsHalved: what fails again is halved until the message that fails is alone. It is
// redelivered as any other, becomes a dead letter, and batches grow again.
func TestBatch_Failure_IsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first batch takes a while: redeliveries and acknowledgements are not due in the same instant.
		const took = time.Millisecond
		fails := failsFor("x")
		s := batchServer(t, Config{MaxRedeliveries: 1, Batches: &Batches{}}, func(ctx context.Context, batch string) error {
			if strings.HasSuffix(batch, "g") {
				time.Sleep(took)
			}
			return fails(ctx, batch)
		})
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.writes(conn, frames("a", "b", "x", "c", "d", "e", "f", "g"))
		time.Sleep(took)
		const failed = "handle connection 1: batch of %d messages: udsipc: handler failed: no x"
		all := "1.1a 1.2b 1.3x 1.4c 1.5d 1.6e 1.7f 1.8g"
		s.noted(all, fmt.Sprintf(failed, 8))
		time.Sleep(10*time.Millisecond - 1)
		s.noted()
		time.Sleep(time.Nanosecond)
		again := strings.ReplaceAll(all, " ", "* ") + "*"
		s.noted(again, fmt.Sprintf(failed, 8), "1.1a* 1.2b* 1.3x* 1.4c*", fmt.Sprintf(failed, 4), "1.1a* 1.2b*",
			"1.3x*", handlerFailed+"no x")
		s.hears(conn, "\x02") // Before the redelivery.
		time.Sleep(10 * time.Millisecond)
		s.noted("1.3x*", handlerFailed+"no x",
			"handle connection 1: message 3 of writer "+firstHello.Writer.String()+" is a dead letter after 1 redeliveries",
			"dead 3x: no x", "1.4c* 1.5d* 1.6e* 1.7f* 1.8g*")
		s.hears(conn, "\x08")
		s.counted(Counts{Accepted: 1, Received: 8, Batches: 7, HandlerErrors: 8, Redelivered: 8 + 4 + 2 + 1 + 1 + 5,
			DeadLetters: 1, Acknowledged: 8, Sessions: 1, Open: 1, WriterStates: 1})
	})
}

// TestBatch_MixedFailure_DeliversPlainOnce: the messages of plain connections fail with their batch,
// and those of sessions are offered again.
func TestBatch_MixedFailure_DeliversPlainOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Shared: true, Wait: time.Second}}, failsFor("x"))
		plain, session := s.dial(), s.dial()
		s.opens(session, firstHello, wire.Welcome{Limit: 100})
		go io.Copy(io.Discard, session) // An acknowledgement that nobody reads would hold up everything.
		s.sends(plain, "a")
		synctest.Wait()
		s.writes(session, frames("b", "x"))
		time.Sleep(time.Second + 5*time.Millisecond)
		s.sends(plain, "c") // It waits for the end of the batch.
		synctest.Wait()
		time.Sleep(5 * time.Millisecond)
		time.Sleep(time.Second)
		synctest.Wait()
		s.mu.Lock()
		events := strings.Join(s.events, "\n")
		s.events = nil
		s.mu.Unlock()
		order := []string{
			" 2.1b 2.2x", "batch of 3 messages", "2.1b* 2.2x*", "batch of 2 messages", "2.1b*", "2.2x*", "dead 2x", "1.2c",
		}
		if strings.HasPrefix(events, "2.") {
			order[0] = "2.1b 2.2x 1.1a" // Both are woken at the deadline.
		}
		for rest, i := events, 0; i < len(order); i++ {
			_, behind, found := strings.Cut(rest, order[i])
			if rest = behind; !found {
				t.Fatalf("%q is missing, in this place, in\n%s", order[i], events)
			}
		}
		s.counted(Counts{Accepted: 2, Received: 4, Batches: 5, HandlerErrors: 3, Redelivered: 4, DeadLetters: 1,
			Acknowledged: 2, Sessions: 1, Open: 2, WriterStates: 1})
	})
}

// TestBatch_Shared_IsFullTogether: a full batch ends the waits of all connections.
func TestBatch_Shared_IsFullTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Max: 4, Shared: true, Wait: time.Second}}, succeed)
		a, b, c := s.dial(), s.dial(), s.dial()
		s.sends(a, "a")
		time.Sleep(time.Millisecond)
		s.sends(b, "b")
		synctest.Wait()
		s.noted()
		s.writes(c, frames("c", "d"))
		synctest.Wait()
		s.mu.Lock()
		got := strings.Join(s.events, ", ")
		if len(got) != len("3.1c 3.2d 1.1a 2.1b") || !strings.HasPrefix(got, "3.1c 3.2d ") {
			t.Errorf("noted are %q", got)
		}
		s.events = nil
		s.mu.Unlock()
		s.sends(b, "e") // The next wait begins with the next message.
		s.after(time.Second, "2.2e")
	})
}

// TestBatch_Redelivery_DelaysItsConnectionAlone: while a message that fails alone is redelivered, the
// others of its batch are handed over, and those that come meanwhile.
func TestBatch_Redelivery_DelaysItsConnectionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		fails := failsFor("x")
		s := batchServer(t, Config{MaxRedeliveries: 2, Batches: &Batches{Shared: true}},
			func(ctx context.Context, texts string) error { <-gate; return fails(ctx, texts) })
		first, second, third := s.dial(), s.dial(), s.dial()
		for i, conn := range []*twoWayPipe{first, second, third} {
			hello := firstHello
			hello.Writer[0] = byte(i + 1)
			s.opens(conn, hello, wire.Welcome{Limit: 100})
			go io.Copy(io.Discard, conn)
		}
		s.sends(first, "gate")
		synctest.Wait()
		s.writes(second, frames("a", "x", "b"))
		synctest.Wait()
		s.writes(third, frames("c", "d"))
		synctest.Wait()
		close(gate)
		time.Sleep(10 * time.Millisecond)
		const failed = "handle x: batch of %d messages: udsipc: handler failed: no x"
		const alone = "handle connection 2: udsipc: handler failed: no x"
		s.noted("1.1gate", "2.1a 2.2x 2.3b 3.1c 3.2d", fmt.Sprintf(failed, 5), "2.1a* 2.2x* 2.3b* 3.1c* 3.2d*",
			fmt.Sprintf(failed, 5), "2.1a* 2.2x* 2.3b*",
			"handle connection 2: batch of 3 messages: udsipc: handler failed: no x",
			"2.1a* 2.2x*", "handle connection 2: batch of 2 messages: udsipc: handler failed: no x", "2.1a*", "2.2x*", alone,
			"3.1c* 3.2d*")
		s.sends(third, "e")
		s.noted("3.3e")
		time.Sleep(10 * time.Millisecond)
		s.noted("2.2x*", alone)
		time.Sleep(20 * time.Millisecond)
		s.sends(third, "f")
		s.noted("3.4f")
		time.Sleep(20 * time.Millisecond)
		s.noted("2.2x*", alone, "handle connection 2: message 2 of writer 02000000000000000000000000000000 is a dead letter "+
			"after 2 redeliveries", "dead 2x: no x", "2.3b*")
	})
}

// TestBatch_Fenced_LeavesAtOnce: a newer connection of a writer waits neither for the batches before it
// nor for a redelivery, and its messages are marked that were offered before.
func TestBatch_Fenced_LeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		fails := failsFor("x")
		s := batchServer(t, Config{MaxRedeliveries: 1000, Batches: &Batches{Shared: true}},
			func(ctx context.Context, texts string) error {
				if strings.Contains(texts, "gate") {
					<-gate
				}
				return fails(ctx, texts)
			})
		opens := func(writer byte, epoch, handled uint64) *twoWayPipe {
			conn, began := s.dial(), time.Now()
			hello := wire.Hello{Writer: wire.WriterID{writer}, Epoch: epoch, FirstSeq: 1}
			s.opens(conn, hello, wire.Welcome{Handled: handled, Limit: 100})
			if took := time.Since(began); took != 0 {
				t.Errorf("the welcome of writer %d took %v", writer, took)
			}
			return conn
		}
		redelivered := opens(1, 1, 0)
		go io.Copy(io.Discard, redelivered)
		s.writes(redelivered, frames("a", "b", "x", "c"))
		time.Sleep(5 * time.Second)
		redelivered = opens(1, 2, 2) // Its predecessor waits for a redelivery.
		s.mu.Lock()
		s.events = nil
		s.mu.Unlock()
		go io.Copy(io.Discard, redelivered)
		gated := opens(2, 1, 0)
		s.sends(gated, "gate")
		s.noted("3.1gate")
		s.writes(redelivered, frames("x", "c"))
		synctest.Wait()
		redelivered = opens(1, 3, 2) // Its predecessor waits for a batch.
		go io.Copy(io.Discard, redelivered)
		close(gate)
		s.writes(redelivered, frames("ok", "c", "d"))
		s.noted("4.3ok* 4.4c* 4.5d")
	})
}

// TestBatch_Goexit_ContinuesBatch: another goroutine goes on with the batch of several connections.
func TestBatch_Goexit_ContinuesBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := batchServer(t, Config{Batches: &Batches{Shared: true, Wait: time.Second}},
			func(_ context.Context, texts string) error {
				if strings.Contains(texts, "x") {
					runtime.Goexit()
				}
				return nil
			})
		a, b := s.dial(), s.dial()
		s.opens(a, firstHello, wire.Welcome{Limit: 100})
		other := firstHello
		other.Writer[0] = 2
		s.opens(b, other, wire.Welcome{Limit: 100})
		s.sends(a, "x")
		synctest.Wait()
		s.writes(b, frames("b", "x", "c"))
		go io.Copy(io.Discard, a)
		go io.Copy(io.Discard, b)
		time.Sleep(2 * time.Second)
		calls := s.Snapshot()
		s.counted(Counts{Accepted: 2, Received: 4, Batches: calls.Batches, Panics: 4, Redelivered: calls.Redelivered,
			DeadLetters: 2, Acknowledged: 4, Sessions: 2, Open: 2, WriterStates: 2})
	})
}
