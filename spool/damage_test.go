// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// segments returns the files with messages, oldest first.
func (p *place) segments() []string {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.dir, "*.seg"))
	if err != nil || len(names) == 0 {
		p.t.Fatal(names, err)
	}
	slices.Sort(names)
	return names
}

// TestWriter_Damage_IsReported with the numbers that are missing, and the rest arrives under the same identity.
func TestWriter_Damage_IsReported(t *testing.T) {
	for name, damaged := range map[string][2]int{
		"first": {0, 1}, "several at the beginning": {0, 3}, "middle": {4, 5}, "last": {9, 10}, "all": {0, 10},
	} {
		t.Run(name, func(t *testing.T) { testDamage(t, damaged[0], damaged[1]) })
	}
}

// testDamage damages the messages from from to below to of ten that are left in a spool.
func testDamage(t *testing.T, from, to int) {
	p := newPlace(t)
	w := p.open()
	p.write(w, 0, 10)
	if err := w.Stop(limit(t)); !errors.Is(err, spool.ErrLeft) {
		t.Fatal(err)
	}
	file := p.segments()[0]
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		content[bytes.LastIndex(content, []byte{1, '0' + byte(n)})+1] = '!'
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var reported []error
	r := p.read()
	w = p.start(spool.WithWriter(udsipc.WithWriterErrorCallback(func(err error, _ string) {
		reported = append(reported, err) // By one goroutine, which Stop waits for.
	})))
	if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
		t.Errorf("Flush: %v", err)
	}
	p.write(w, 10, 12)
	p.stop(w)
	bytes, ranges := int64(0), [][2]uint64(nil)
	for _, err := range reported {
		var damage *spool.DamageError
		if !errors.As(err, &damage) || !errors.Is(err, spool.ErrDamaged) || damage.File != filepath.Base(file) {
			t.Fatalf("reported: %v", err)
		}
		if bytes += damage.Bytes; damage.To > damage.From { // That of the end is told when the spool is opened.
			ranges = append(ranges, [2]uint64{damage.From, damage.To})
		}
	}
	if want := [2]uint64{uint64(from) + 1, uint64(to) + 1}; !slices.Equal(ranges, [][2]uint64{want}) {
		t.Errorf("reported %v, want %v", ranges, want)
	}
	if want := int64(26 * (to - from)); bytes != want || w.Metrics().DamagedBytes != uint64(want) {
		t.Errorf("%d bytes, %d in the metrics, want %d", bytes, w.Metrics().DamagedBytes, want)
	}
	missing := uint64(to - from)
	m := w.Metrics()
	if m.Found != 10 || m.Accepted != 2 || m.Sent != 12-missing || m.Damaged != missing || m.Queued != 0 {
		t.Errorf("%+v", m)
	}
	want := slices.Concat(numbers(0, from), numbers(to, 12))
	if got := r.all(); !slices.Equal(got, want) {
		t.Errorf("the reader got %v, want %v", got, want)
	}
	for i, text := range want {
		if n, err := strconv.ParseUint(text, 10, 64); err != nil || r.seqs[i] != n+1 || r.ids[i] != r.ids[0] {
			t.Errorf("message %s has number %d of writer %v", text, r.seqs[i], r.ids[i])
		}
	}
	if _, err := os.Stat(file + ".bad"); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
}

// TestDeliver_Orphan_IsDelivered under its identity, once.
func TestDeliver_Orphan_IsDelivered(t *testing.T) {
	p := newPlace(t)
	if err := spool.Deliver(limit(t), p.dir, p.address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	w := p.open()
	p.write(w, 0, 1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(limit(t))
	err := spool.Deliver(ctx, p.dir, p.address, spool.WithWriter(udsipc.WithWriterErrorCallback(
		func(err error, _ string) {
			if errors.Is(err, udsipc.ErrNoConsumer) {
				cancel()
			}
		})))
	if !errors.Is(err, spool.ErrLeft) || !errors.Is(err, context.Canceled) || !errors.Is(err, udsipc.ErrNoConsumer) ||
		errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reader that is away: %v", err)
	}
	r := p.read()
	w = p.start()
	p.write(w, 1, 3)
	p.flush(w)
	if err := spool.Deliver(limit(t), p.dir, p.address); !errors.Is(err, spool.ErrSpoolInUse) {
		t.Errorf("a directory in use: %v", err)
	}
	p.stop(w)
	w = p.open()
	p.write(w, 3, 6)
	if err := w.Stop(limit(t)); !errors.Is(err, spool.ErrLeft) {
		t.Fatal(err)
	}
	if err := spool.Deliver(limit(t), p.dir, p.address, quiet()); err != nil {
		t.Fatal(err)
	}
	if err := spool.Deliver(limit(t), p.dir, p.address, quiet()); err != nil {
		t.Errorf("again: %v", err)
	}
	w = p.start()
	p.write(w, 6, 8)
	p.stop(w)
	if got := r.all(); !slices.Equal(got, numbers(0, 8)) || r.again > 0 {
		t.Errorf("the reader got %v, and %d again", got, r.again)
	}
	if r.ids[7] != r.ids[0] || r.seqs[7] != 8 {
		t.Errorf("numbers %v, writers %v", r.seqs, r.ids)
	}
}

// TestNewWriter_SecondOne_IsRefused, and so is a directory that others may write.
func TestNewWriter_SecondOne_IsRefused(t *testing.T) {
	p := newPlace(t)
	p.open()
	if _, err := spool.NewWriter(p.dir, p.address); !errors.Is(err, spool.ErrSpoolInUse) {
		t.Errorf("a second Writer: %v", err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.NewWriter(open, p.address); !errors.Is(err, spool.ErrUnsafe) {
		t.Errorf("a directory of mode 0770: %v", err)
	}
}

// TestNewWriter_BadOption_IsRefused before the directory is touched.
func TestNewWriter_BadOption_IsRefused(t *testing.T) {
	p := newPlace(t)
	for name, opt := range map[string]spool.Option{
		"size":     spool.WithMaxBytes(1000),
		"segment":  spool.WithSegmentSize(1),
		"age":      spool.WithMaxAge(-1),
		"policy":   spool.WithOverflow(7),
		"overflow": spool.WithWriter(udsipc.WithOverflow(udsipc.OverflowBlock)),
		"max age":  spool.WithWriter(udsipc.WithMaxAge(1)),
		"writes":   spool.WithWriter(udsipc.WithMaxBufferedWrites(1)),
		"bytes":    spool.WithWriter(udsipc.WithMaxBufferedBytes(1)),
		"handled":  spool.WithWriter(udsipc.WithHandled(func(uint64) {})),
		"identity": spool.WithWriter(udsipc.WithIdentity(udsipc.Identity{Writer: udsipc.WriterID{1}, First: 1, Attempt: 1})),
		"tls":      spool.WithWriter(udsipc.WithTLS(nil)),
	} {
		if w, err := spool.NewWriter(p.dir, p.address, opt); err == nil {
			w.Close()
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}
