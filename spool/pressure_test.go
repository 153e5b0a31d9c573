// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_DropWhileConnecting_Delivers: a spool that drops all it has while each session opens sends something.
func TestWriter_DropWhileConnecting_Delivers(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	var w atomic.Pointer[spool.Writer]
	drop := udsipc.WithAuthorizer(func(udsipc.Peer) error {
		for range 70 {
			if err := w.Load().WriteMessage(make([]byte, 1000)); err != nil {
				return err
			}
		}
		return nil
	})
	w.Store(p.open(append(small(udsipc.OverflowDropOldest), spool.WithWriter(drop))...))
	p.write(w.Load(), 0, 1)
	if err := w.Load().Start(); err != nil {
		t.Fatal(err)
	}
	for ctx := limit(t); len(r.all()) == 0; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("the reader gets nothing: %+v", w.Load().Metrics())
		}
	}
}

// TestWriter_SmallSpool_TakesConcurrentWrites: writes that fit one by one are not refused because they come together.
func TestWriter_SmallSpool_TakesConcurrentWrites(t *testing.T) {
	p := newPlace(t)
	w := p.open(append(small(udsipc.OverflowDropOldest), spool.WithSync(-1))...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := w.WriteMessage(make([]byte, 33<<10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
