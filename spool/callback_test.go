// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// damage leaves the messages from 0 to below n in the spool, of which the first one is damaged.
func (p *place) damage(n int) {
	p.t.Helper()
	w := p.open()
	p.write(w, 0, n)
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	file := p.segments()[0]
	content, err := os.ReadFile(file)
	if err == nil {
		content[48+24] ^= 1
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// TestWriter_StopInCallback_Returns when its context ends, on whichever goroutine the callback runs.
func TestWriter_StopInCallback_Returns(t *testing.T) {
	for _, name := range []string{"error", "error at the end", "connected", "stopped"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			if name == "connected" {
				p.read()
			}
			var w atomic.Pointer[spool.Writer]
			returned := make(chan error, 100)
			stop := func(this bool) {
				if this {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					defer cancel()
					returned <- w.Load().Stop(ctx)
				}
			}
			w.Store(p.open(append(small(udsipc.OverflowDropOldest), spool.WithWriter(
				udsipc.WithStateCallback(func(state udsipc.State, _ error) { stop(state.String() == name) }),
				udsipc.WithWriterErrorCallback(func(err error, _ string) {
					stop(name[:5] == "error" && errors.Is(err, spool.ErrSpoolFull))
				})))...))
			if name == "error" || name == "connected" {
				if err := w.Load().Start(); err != nil {
					t.Fatal(err)
				}
			}
			for range 70 { // Some of them are dropped, which is told.
				if err := w.Load().WriteMessage(make([]byte, 1000)); err != nil && err != udsipc.ErrStopped {
					t.Fatal(err)
				}
			}
			if name == "error at the end" || name == "stopped" {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = w.Load().Stop(ctx)
			}
			select {
			case err := <-returned:
				if !errors.Is(err, spool.ErrLeft) {
					t.Errorf("Stop in a callback: %v", err)
				}
			case <-limit(t).Done():
				t.Fatal("Stop in a callback does not return")
			}
			_ = w.Load().Stop(limit(t))
			if second, err := spool.NewWriter(p.dir, p.address, quiet()); err != nil {
				t.Errorf("the directory is not free: %v", err)
			} else {
				second.Close()
			}
		})
	}
}

// TestWriter_GoexitInCallback_GoesOn with another goroutine: the messages are on the disk.
func TestWriter_GoexitInCallback_GoesOn(t *testing.T) {
	for _, at := range []string{"error", "connecting", "connected", "disconnected"} {
		t.Run(at, func(t *testing.T) {
			p := newPlace(t)
			p.damage(3)
			var gone atomic.Bool
			exit := func(this bool) {
				if this && !gone.Swap(true) {
					runtime.Goexit()
				}
			}
			r := p.read()
			w := p.start(spool.WithWriter(
				udsipc.WithStateCallback(func(state udsipc.State, _ error) { exit(state.String() == at) }),
				udsipc.WithWriterErrorCallback(func(error, string) { exit(at == "error") })))
			if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
				t.Fatal(err)
			}
			r.restart(p)
			p.write(w, 3, 5)
			p.flush(w)
			p.stop(w)
			if got := r.all(); !slices.Equal(got, numbers(1, 5)) || !gone.Load() {
				t.Errorf("the reader got %v; a callback has ended its goroutine: %v", got, gone.Load())
			}
		})
	}
}

// TestWriter_States_EndOnce, although damage costs another connection.
func TestWriter_States_EndOnce(t *testing.T) {
	p := newPlace(t)
	w := p.open()
	p.write(w, 0, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(p.segments()[0])
	if err == nil {
		content[48+(24+2)+24] ^= 1 // The second message.
		err = os.WriteFile(p.segments()[0], content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := p.read()
	var states []udsipc.State
	w = p.start(spool.WithWriter(udsipc.WithStateCallback(func(state udsipc.State, _ error) {
		states = append(states, state) // By one goroutine after the other, which Stop waits for.
	})))
	if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
		t.Error(err)
	}
	p.stop(w)
	want := []udsipc.State{udsipc.StateConnecting, udsipc.StateConnected, udsipc.StateDisconnected,
		udsipc.StateConnecting, udsipc.StateConnected, udsipc.StateDisconnected, udsipc.StateStopped}
	if !slices.Equal(states, want) {
		t.Errorf("%v, want %v; the reader got %v", states, want, r.all())
	}
}

// TestWriter_NotStarted_Says what to do, and a reader that is away is not a directory that is missing.
func TestWriter_NotStarted_Says(t *testing.T) {
	p := newPlace(t)
	w := p.open(spool.WithSync(-1))
	p.write(w, 0, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, udsipc.ErrNotStarted) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush: %v", err)
	}
	if err := w.Stop(ctx); !errors.Is(err, spool.ErrLeft) || !errors.Is(err, udsipc.ErrNotStarted) {
		t.Errorf("Stop: %v", err)
	}
	if err := w.Sync(t.Context()); err != udsipc.ErrStopped {
		t.Errorf("Sync of a stopped Writer that has not synced: %v", err)
	}
	if m := w.Metrics(); m.SyncErrors > 0 {
		t.Errorf("%d errors of syncs", m.SyncErrors)
	}
	away := make(chan struct{}, 10)
	state := udsipc.WithWriterErrorCallback(func(error, string) { away <- struct{}{} })
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-away; stop() }()
	err := spool.Deliver(ctx, p.dir, p.address, spool.WithWriter(state))
	if !errors.Is(err, spool.ErrLeft) || !errors.Is(err, udsipc.ErrNotConnected) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Deliver without a reader: %v", err)
	}
}
