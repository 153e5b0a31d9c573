// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestPublisher_Spool_StoresOnceOverProcesses: the bridge and the writer end after the stream has stored
// messages, and before the writer learns of it. The next writer, with the files of that one, is the same
// in the stream.
func TestPublisher_Spool_StoresOnceOverProcesses(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	const lives, messages = 4, 400
	for life := range lives {
		last := life == lives-1
		p := w.publisher(w.js) // It knows nothing of the earlier one.
		stored := make(chan struct{}, 100)
		r, err := udsipc.NewBatchReader(func(ctx context.Context, batch []udsipc.Delivery) error {
			err := p.Handle(ctx, batch)
			stored <- struct{}{}
			if !last {
				<-ctx.Done() // It is killed here.
				return ctx.Err()
			}
			return err
		}, w.address(), udsipc.WithReaderErrorCallback(func(error, string) {}))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		s := w.spools()
		for n := range messages {
			if err := s.WriteMessage(fmt.Append(nil, life*messages+n)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(w.ctx)
		if <-stored; last {
			if err := s.Flush(w.ctx); err != nil {
				t.Error(err)
			}
		}
		cancel()
		_ = r.Stop(ctx)
		_ = s.Stop(ctx)
		if m := p.Metrics(); life > 0 && m.Skipped == 0 {
			t.Errorf("life %d: nothing comes again: %+v", life, m)
		}
	}
	w.wantOnce(1, lives*messages)
}

// spools starts a Writer with its queue on the disk, the same one each time.
func (w *world) spools() *spool.Writer {
	w.Helper()
	s, err := spool.NewWriter(filepath.Join(w.dir, "spool"), w.address(), spool.WithWriter(
		udsipc.WithMaxBackoff(10*time.Millisecond), udsipc.WithWriterErrorCallback(func(error, string) {})))
	if err != nil {
		w.Fatal(err)
	}
	if err := s.Start(); err != nil {
		w.Fatal(err)
	}
	return s
}
