// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// A place is a directory with a spool and a socket.
type place struct {
	t            *testing.T
	dir, address string
}

func newPlace(t *testing.T) *place {
	base := t.TempDir()
	return &place{t, filepath.Join(base, "spool"), filepath.Join(base, "s")}
}

// quiet drops the lines of the logger.
func quiet() spool.Option {
	return spool.WithWriter(udsipc.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
}

// open returns a Writer that has not started. The test stops it.
func (p *place) open(opts ...spool.Option) *spool.Writer {
	p.t.Helper()
	w, err := spool.NewWriter(p.dir, p.address, append([]spool.Option{quiet()}, opts...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Stop(ctx)
	})
	return w
}

// start returns a Writer that has started.
func (p *place) start(opts ...spool.Option) *spool.Writer {
	p.t.Helper()
	w := p.open(opts...)
	if err := w.Start(); err != nil {
		p.t.Fatal(err)
	}
	return w
}

// write writes messages with the numbers from to below to.
func (p *place) write(w *spool.Writer, from, to int) {
	p.t.Helper()
	for i := from; i < to; i++ {
		if err := w.WriteMessage([]byte(fmt.Sprint(i))); err != nil {
			p.t.Fatalf("message %d: %v", i, err)
		}
	}
}

// flush waits until all is handled.
func (p *place) flush(w *spool.Writer) {
	p.t.Helper()
	if err := w.Flush(limit(p.t)); err != nil {
		p.t.Fatal(err)
	}
}

// stop stops a Writer whose reader is there.
func (p *place) stop(w *spool.Writer) {
	p.t.Helper()
	if err := w.Stop(limit(p.t)); err != nil {
		p.t.Fatal(err)
	}
}

// life is a process that writes messages with the numbers from from to below to, which are handled.
func (p *place) life(from, to int) {
	p.t.Helper()
	w := p.start()
	p.write(w, from, to)
	p.stop(w)
}

// limit returns a context that ends when a test hangs.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A reader stores what it gets, each (Writer, Seq) once.
type reader struct {
	*udsipc.Reader
	mu     sync.Mutex
	known  map[key]bool
	texts  []string
	again  int // Messages that came again.
	seqs   []uint64
	ids    []udsipc.WriterID
	redone int // Messages with Redelivered set.
}

type key struct {
	writer udsipc.WriterID
	seq    uint64
}

// read starts a reader.
func (p *place) read(opts ...udsipc.ReaderOption) *reader {
	p.t.Helper()
	r := &reader{known: map[key]bool{}}
	r.start(p, opts...)
	p.t.Cleanup(func() { r.end() })
	return r
}

func (r *reader) start(p *place, opts ...udsipc.ReaderOption) {
	p.t.Helper()
	var err error
	opts = append([]udsipc.ReaderOption{udsipc.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	if r.Reader, err = udsipc.NewDeliveryReader(r.handle, p.address, opts...); err != nil {
		p.t.Fatal(err)
	}
	if err = r.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// restart ends the reader and starts another one with the same store.
func (r *reader) restart(p *place) {
	p.t.Helper()
	r.end()
	r.start(p)
}

func (r *reader) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = r.Stop(ctx)
}

func (r *reader) handle(_ context.Context, d *udsipc.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Redelivered {
		r.redone++
	}
	k := key{d.Writer, d.Seq}
	if r.known[k] {
		r.again++
		return nil
	}
	r.known[k] = true
	r.texts, r.seqs, r.ids = append(r.texts, string(d.Data)), append(r.seqs, d.Seq), append(r.ids, d.Writer)
	return nil
}

// all returns what was read.
func (r *reader) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.texts...)
}

// numbers returns the texts of the numbers from to below to.
func numbers(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint(i))
	}
	return texts
}
