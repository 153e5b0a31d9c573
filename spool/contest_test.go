// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/udsipc/udsipc"
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

// contested returns an option that tells of identities that were given up.
func contested() (spool.Option, chan error) {
	told := make(chan error, 100)
	return spool.WithWriter(udsipc.WithWriterErrorCallback(func(err error, _ string) {
		if errors.Is(err, spool.ErrIdentity) {
			told <- err
		}
	})), told
}

// TestWriter_CopiedDirectory_LosesNothing: two processes with one identity both get what they wrote to the reader.
func TestWriter_CopiedDirectory_LosesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		starts int // More starts of the copy than of the original.
	}{{"same starts", 0}, {"more starts", 3}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			r := p.read()
			w := p.start()
			p.write(w, 0, 5)
			p.stop(w)
			second := copyOf(p)
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

// TestWriter_OldBackup_IsWelcomed although the reader refuses its attempts: they are older than those that it knows.
func TestWriter_OldBackup_IsWelcomed(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	w := p.start()
	p.write(w, 0, 5)
	p.stop(w)
	backup := copyOf(p)
	for i := range 20 {
		w = p.start()
		p.write(w, 5+i, 6+i)
		p.stop(w)
	}
	tell, told := contested()
	w = backup.start(tell)
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
