// SPDX-License-Identifier: Apache-2.0

//go:build unix

package spool_test

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/spool"
)

// copyOf returns a place whose spool is a copy of that of p. The address is the same.
func copyOf(p *place) *place {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(p.dir)); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	return &place{p.t, dir, p.address}
}

// snapshotOf is copyOf by a snapshot of the file system: the state does not tell that it is a copy.
func snapshotOf(p *place) *place {
	p.t.Helper()
	other := copyOf(p)
	name := filepath.Join(other.dir, "state")
	content, err := os.ReadFile(name)
	if err != nil {
		p.t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		p.t.Fatal(err)
	}
	state, generation, ok := segment.ParseState(content)
	if !ok {
		p.t.Fatal("no state")
	}
	state.File = info.Sys().(*syscall.Stat_t).Ino
	copy(content[segment.SlotOffset(generation):], segment.AppendState(nil, generation, state))
	if err := os.WriteFile(name, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return other
}

// contested returns an option that tells of identities that were given up.
func contested() (spool.Option, chan error) {
	told := make(chan error, 100)
	return spool.WithWriter(udsipc.WithWriterErrorCallback(func(err error, _ string) {
		if errors.Is(err, spool.ErrIdentity) {
			told <- err
		}
	})), told
}

// TestWriter_Snapshot_LosesNothing: two processes with one identity both get what they wrote to the reader.
func TestWriter_Snapshot_LosesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		starts int // More starts of the copy than of the original.
	}{{"same starts", 0}, {"more starts", 3}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			r := p.read()
			p.life(0, 5)
			second := snapshotOf(p)
			for range test.starts {
				second.stop(second.open())
			}
			tell, told := contested()
			original, other := p.start(tell), second.start(tell)
			const n = 400
			for i := range n { // Turn by turn, so that both have connections.
				p.write(original, 1000+i, 1001+i)
				p.write(other, 2000+i, 2001+i)
				if i%100 == 0 {
					p.flush(original)
					p.flush(other)
				}
			}
			p.flush(original)
			p.flush(other)
			p.stop(original)
			p.stop(other)
			if len(told) == 0 {
				t.Error("nobody was told")
			}
			count := map[string]int{}
			for _, text := range r.all() {
				count[text]++
			}
			for _, text := range slices.Concat(numbers(0, 5), numbers(1000, 1000+n), numbers(2000, 2000+n)) {
				if count[text] == 0 {
					t.Errorf("message %s is lost", text)
				}
			}
			t.Logf("%d messages, %d told", len(r.all()), len(told))
		})
	}
}

// TestWriter_Copy_HasNewIdentity for new messages, so that a reader that has restarted cannot take them for those of
// the original. What both have is known by its number.
func TestWriter_Copy_HasNewIdentity(t *testing.T) {
	p := newPlace(t)
	w := p.open()
	p.write(w, 0, 5)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	second := copyOf(p)
	tell, told := contested()
	r := p.read()
	for i, each := range []*place{p, second} {
		w := each.start(tell)
		p.write(w, 100*i+100, 100*i+110)
		p.flush(w)
		p.stop(w)
		r.restart(p) // It remembers nothing. The store does.
	}
	want := slices.Concat(numbers(0, 5), numbers(100, 110), numbers(200, 210))
	if got := r.all(); !slices.Equal(got, want) || r.again != 5 || len(told) != 0 {
		t.Errorf("the reader got %v, and %d again; told %d times", got, r.again, len(told))
	}
	if r.ids[0] != r.ids[14] || r.ids[15] == r.ids[0] || r.ids[15] != r.ids[24] {
		t.Errorf("writers %v", r.ids)
	}
}

// TestWriter_OldBackup_IsWelcomed although the reader refuses its attempts: they are older than those that it knows.
func TestWriter_OldBackup_IsWelcomed(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	p.life(0, 5)
	backup := snapshotOf(p)
	for i := range 20 {
		p.life(5+i, 6+i)
	}
	tell, told := contested()
	w := backup.start(tell)
	p.write(w, 100, 110)
	p.flush(w)
	p.stop(w)
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
	if got := r.all(); !slices.Equal(got, slices.Concat(numbers(0, 25), numbers(100, 110))) || r.again > 0 {
		t.Errorf("the reader got %v, and %d again", got, r.again)
	}
}

// TestWriter_RestoredBackup_GetsNewIdentity: the reader knows of more messages than the spool has. What was accepted
// since then arrives under another identity; nothing comes twice.
func TestWriter_RestoredBackup_GetsNewIdentity(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	p.life(0, 5)
	backup := snapshotOf(p)
	p.life(5, 10)
	reported := make(chan error, 10)
	w := backup.open(spool.WithWriter(udsipc.WithWriterErrorCallback(func(err error, _ string) {
		if errors.Is(err, spool.ErrIdentity) {
			reported <- err
		}
	})))
	p.write(w, 10, 20) // Numbers 6 to 15, of which the reader has handled 6 to 10.
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	p.flush(w)
	p.write(w, 20, 22)
	p.stop(w)
	if err := <-reported; !errors.Is(err, spool.ErrIdentity) {
		t.Errorf("reported: %v", err)
	}
	if got := r.all(); !slices.Equal(got, numbers(0, 22)) || r.again > 0 {
		t.Errorf("the reader got %v, and %d again", got, r.again)
	}
	if r.ids[9] == r.ids[10] || r.ids[10] != r.ids[21] || r.seqs[10] != 1 || r.seqs[21] != 12 {
		t.Errorf("numbers %v, writers %v", r.seqs, r.ids)
	}
	if m := w.Metrics(); m.Identities != 1 || m.Sent != 12 || m.Queued != 0 {
		t.Errorf("%+v", m)
	}
}

// TestWriter_LastAttempt_GivesUp: the reader knows of the last attempt that there is, of another process.
func TestWriter_LastAttempt_GivesUp(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	p.life(0, 3)
	other, err := udsipc.NewWriter(p.address, udsipc.WithAcknowledgements(), udsipc.WithIdentity(udsipc.Identity{
		Writer: r.ids[0], First: 4, Sent: 3, Attempt: math.MaxInt64 - 1}), udsipc.WithLogger(slog.New(slog.DiscardHandler)))
	if err == nil {
		err = errors.Join(other.Start(), other.WriteMessage([]byte("other")), other.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	tell, told := contested()
	w := p.start(tell)
	p.write(w, 3, 5)
	p.flush(w)
	p.stop(w)
	want := slices.Concat(numbers(0, 3), []string{"other"}, numbers(3, 5))
	if got := r.all(); !slices.Equal(got, want) || len(told) != 1 {
		t.Errorf("the reader got %v; told %d times", got, len(told))
	}
}

// TestWriter_CopyIsAhead_LosesNothing: the reader has forgotten this spool, and knows of messages of a snapshot, when
// the spool opens another session.
func TestWriter_CopyIsAhead_LosesNothing(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	p.life(0, 10)
	second := snapshotOf(p)
	for range 3 { // The original has made more attempts.
		p.stop(p.open())
	}
	gone := make(chan struct{})
	tell, told := contested()
	var once sync.Once
	w := p.start(tell, spool.WithWriter(udsipc.WithStateCallback(func(state udsipc.State, _ error) {
		if state == udsipc.StateDisconnected {
			once.Do(func() { close(gone); runtime.Goexit() }) // Another session follows.
		}
	})))
	p.write(w, 10, 11)
	p.flush(w)
	r.restart(p)
	<-gone
	other := second.start()
	p.write(other, 100, 150)
	p.flush(other)
	p.stop(other)
	p.write(w, 11, 13)
	p.flush(w)
	p.stop(w)
	got := r.all()
	for _, text := range numbers(11, 13) {
		if !slices.Contains(got, text) {
			t.Errorf("message %s is lost", text)
		}
	}
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}
