// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
)

func never() bool { return false }

func TestLifecycle_StopBeforeStart_IsFinal(t *testing.T) {
	var states []State
	l := NewLifecycle(time.Second, func(s State, _ error) { states = append(states, s) })
	for range 2 {
		if l.Stop() {
			t.Error("stop: it was started")
		}
		<-l.Done()
		if err := l.Start(func() { t.Error("it runs") }); err != errdefs.ErrStopped {
			t.Errorf("start after stop: %v", err)
		}
	}
	requested := func() { t.Error("a connection is requested") }
	if err := l.WaitConnected(context.Background(), requested); err != errdefs.ErrStopped {
		t.Errorf("waitConnected after stop: %v", err)
	}
	if want := []State{StateStopped}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

// TestLifecycle_StopCallbackGoexit_StillEnds: who waits for the end is not left waiting.
func TestLifecycle_StopCallbackGoexit_StillEnds(t *testing.T) {
	for _, started := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := NewLifecycle(time.Second, func(State, error) { runtime.Goexit() })
			if started {
				if err := l.Start(func() {}); err != nil {
					t.Fatal(err)
				}
			}
			go l.Stop()
			<-l.Done()
			if s := l.State(); s != StateStopped {
				t.Errorf("started %v: state %v", started, s)
			}
		})
	}
}

func TestLifecycle_Start_RunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []State
		l := NewLifecycle(time.Second, func(s State, _ error) { states = append(states, s) })
		run := func() {
			l.SetState(StateConnecting, nil)
			l.SetState(StateConnected, nil)
			l.SetState(StateConnected, nil)
			<-l.Context().Done()
		}
		for range 2 {
			if err := l.Start(run); err != nil {
				t.Fatal(err)
			}
		}
		requests := 0
		if err := l.WaitConnected(t.Context(), func() { requests++ }); err != nil || requests > 1 {
			t.Errorf("waitConnected: %v after %d requests", err, requests)
		}
		if first, second := l.Stop(), l.Stop(); !first || !second || !l.IsStopping() || l.Forced() {
			t.Error("stop: it was not started, or is forced")
		}
		if began := time.Now(); l.AwaitForced() || time.Since(began) != 20*time.Millisecond {
			t.Errorf("it ended, or took %v", time.Since(began))
		}
		l.Force()
		if !l.AwaitForced() || !l.Forced() || l.State() != StateStopped {
			t.Error("it has not ended")
		}
		if want := []State{StateConnecting, StateConnected, StateStopped}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

func TestLifecycle_WaitConnected_EndsWithContext(t *testing.T) {
	l := NewLifecycle(time.Second, func(State, error) {})
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("cause")
	cancel(cause)
	if err := l.WaitConnected(ctx, nil); !errors.Is(err, errdefs.ErrNotConnected) || !errors.Is(err, cause) {
		t.Error(err)
	}
}

// TestLifecycle_Pause_EndsWithStop ends with the backoff, with a forced stop, or once there is no reason for it.
func TestLifecycle_Pause_EndsWithStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLifecycle(time.Hour, func(State, error) {})
		if began := time.Now(); l.Pause(nil, never) != nil || time.Since(began) != 0 {
			t.Error("the first attempt waits")
		}
		for range 40 {
			_ = l.AttemptFailed(errdefs.ErrNoConsumer)
		}
		if began := time.Now(); l.Pause(nil, never) != nil || time.Since(began) == 0 || time.Since(began) > time.Hour {
			t.Errorf("waited for %v", time.Since(began))
		}
		wake, asked := make(chan struct{}, 3), 0
		for range cap(wake) {
			wake <- struct{}{}
		}
		until := func() bool { asked++; return asked > cap(wake) }
		if err := l.Pause(wake, until); err != errdefs.ErrStopped || asked != cap(wake)+1 {
			t.Errorf("%v after %d questions", err, asked)
		}
		l.Force()
		if began := time.Now(); l.Pause(nil, l.Forced) != errdefs.ErrStopped || time.Since(began) != 0 {
			t.Error("a forced stop waits")
		}
	})
}

func TestBackoff_Failures_GrowAndReset(t *testing.T) {
	b := backoff{limit: 50 * time.Millisecond}
	for failures, limit := range []time.Duration{1, 10, 20, 40, 50, 50} {
		limit *= time.Millisecond
		b.failures = failures
		var longest time.Duration
		for range 1000 {
			longest = max(longest, b.delay())
		}
		if longest >= limit || failures == 0 && longest != 0 || failures > 0 && longest < limit/2 {
			t.Errorf("%d failures: a delay of %v, want less than %v", failures, longest, limit)
		}
	}
	for _, test := range []struct {
		before int
		useful bool
		lived  time.Duration
		want   int
	}{
		{0, false, 0, 1}, {9, false, transport.ResetBackoffAfter - 1, 10}, {0, true, 0, 1},
		{4, true, 0, 5}, {5, true, 0, 5}, {9, true, 0, 5},
		{9, false, transport.ResetBackoffAfter, 0}, {9, true, transport.ResetBackoffAfter, 0},
	} {
		b.failures = test.before
		if b.ConnectionEnded(test.useful, test.lived); b.failures != test.want {
			t.Errorf("%+v: %d failures", test, b.failures)
		}
	}
}

// TestReported_Losses_AreReportedOnce counts each loss once for each of the two who are told.
func TestReported_Losses_AreReportedOnce(t *testing.T) {
	q := queue.New(queue.Limits{Messages: 2, Bytes: 1 << 20, DropOldest: true})
	var r reported
	var lost atomic.Uint64
	check := func(what string, got, want [2]uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	pair := func(a, b uint64) [2]uint64 { return [2]uint64{a, b} }
	for i := range 5 {
		if err := q.EnqueueAndWake([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	lost.Store(7)
	check("drops", pair(r.drops(q)), pair(3, 0))
	check("drops again", pair(r.drops(q)), pair(0, 0))
	check("losses", pair(r.losses(q, &lost)), pair(3, 7))
	check("losses again", pair(r.losses(q, &lost)), pair(0, 0))
	if err := q.EnqueueAndWake(nil); err != nil {
		t.Fatal(err)
	}
	left, undelivered, possibly, rest := r.takeRemaining(q, &lost)
	check("left", pair(left, possibly), pair(2, 0))
	check("dropped before", pair(undelivered, 0), pair(1, 0))
	var got []string
	rest.Visit(func(data []byte) { got = append(got, fmt.Sprint(data)) })
	if want := []string{"[4]", "[]"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	check("losses in the end", pair(r.losses(q, &lost)), pair(0, 0))
}

func TestWriteDeadline_Set_EndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Deadline
		before := d.Context()
		d.Set(time.Now().Add(time.Second))
		if cause := context.Cause(before); cause != ErrDeadlineChanged {
			t.Error(cause)
		}
		ctx := d.Context()
		time.Sleep(time.Second - 1)
		synctest.Wait()
		if err := ctx.Err(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if cause := context.Cause(ctx); cause != errWriteDeadline || d.Context() != ctx {
			t.Error(cause)
		}
		d.Set(time.Time{})
		if ctx = d.Context(); ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		d.Set(time.Now().Add(-1))
		if cause := context.Cause(ctx); cause != ErrDeadlineChanged || context.Cause(d.Context()) != errWriteDeadline {
			t.Error(cause)
		}
	})
}
