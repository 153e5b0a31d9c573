// SPDX-License-Identifier: Apache-2.0

package spool_test

// Many lives of a Writer on a disk in memory, with a reader that stores what it has handled.

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/spool"
)

// A lived is a spool over many lives.
type lived struct {
	*place
	random *rand.Rand
	disk   *disktest.Disk
	boot   byte
	opts   []spool.Option
	reader *udsipc.Reader // Nil while it is away.

	mu      sync.Mutex
	handled map[udsipc.WriterID]uint64 // What the reader stores: the last number,
	got     []uint64                   // and the serial numbers in order.
	wrong   error

	serial   uint64
	accepted map[uint64]bool
	lossy    bool // Messages may be missing.
	gaps     bool // Files that were removed may have come back, but for those between them.
}

// TestWriter_Lives_HandleEachOnce: lives end in order, by a kill and by a loss of power; the reader is away, forgets,
// and comes back. With a sync before each return nothing is lost; else only by a loss of power. Nothing comes twice
// to a reader that stores the numbers, or out of order.
func TestWriter_Lives_HandleEachOnce(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(200, 20_000)) {
		oneSeed(t, seed)
	}
}

// oneSeed is the lives of one seed.
func oneSeed(t *testing.T, seed uint64) {
	t.Helper()
	l := &lived{place: newPlace(t), random: rand.New(rand.NewPCG(seed, 41)), disk: disktest.New(), boot: 1,
		handled: map[udsipc.WriterID]uint64{}, accepted: map[uint64]bool{}}
	interval := []time.Duration{0, time.Hour}[seed%2]
	l.opts = []spool.Option{quiet(), spool.WithSync(interval), spool.WithSegmentSize(4 << 10), spool.WithMinFree(0),
		spool.WithWriter(udsipc.WithMaxBackoff(time.Millisecond))}
	for range 2 + l.random.IntN(5) {
		if l.live() && interval != 0 {
			l.lossy = true
		}
	}
	l.read()
	w := l.begin()
	l.flush(w)
	l.stop(w)
	l.away()
	l.check(seed)
}

// begin starts a Writer.
func (l *lived) begin() *spool.Writer {
	l.t.Helper()
	w, err := spool.OpenOn(l.disk, l.boot, l.address, l.opts...)
	if err == nil {
		err = w.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return w
}

// live is one life. It returns whether it has ended with a loss of power, and not in order.
func (l *lived) live() bool {
	l.t.Helper()
	w := l.begin()
	for range l.random.IntN(10) {
		switch l.random.IntN(8) {
		case 0:
			l.read()
		case 1:
			l.away()
		case 2:
			if l.reader != nil {
				l.flush(w)
			}
		default:
			l.write(w, l.random.IntN(40))
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	orderly := l.random.IntN(3) == 0
	if orderly {
		if err := w.Stop(ended); err != nil && !errors.Is(err, spool.ErrLeft) {
			l.t.Fatal(err)
		}
	}
	former, powerLoss := l.disk, l.random.IntN(2) == 0
	if powerLoss {
		l.disk, l.boot, l.gaps = former.PowerLoss(l.random), l.boot+1, true
	} else {
		l.disk = former.Kill()
	}
	_ = w.Stop(ended) // What it still says, the disk does not hear.
	return powerLoss && !orderly
}

// flush waits until all is handled, or reported as missing. What was handled may be reported too, if the reader has
// forgotten it.
func (l *lived) flush(w *spool.Writer) {
	l.t.Helper()
	if err := w.Flush(limit(l.t)); err != nil && !(l.gaps && errors.Is(err, spool.ErrNotDelivered)) {
		l.t.Fatal(err)
	}
}

// write writes messages, all or none.
func (l *lived) write(w *spool.Writer, count int) {
	l.t.Helper()
	var messages [][]byte
	first := l.serial + 1
	for range count {
		l.serial++
		messages = append(messages, ipctest.SerialMessage(l.serial))
	}
	if err := w.WriteMessages(messages); err != nil {
		l.t.Fatal(err)
	}
	for ; first <= l.serial; first++ {
		l.accepted[first] = true
	}
}

// read lets a reader begin that remembers nothing but what it stores.
func (l *lived) read() {
	l.t.Helper()
	l.away()
	r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.Seq <= l.handled[d.Writer] {
			return nil
		}
		serial, err := ipctest.SerialOf(d.Data)
		l.handled[d.Writer], l.got, l.wrong = d.Seq, append(l.got, serial), errors.Join(l.wrong, err)
		return nil
	}, l.address, udsipc.WithLogger(slog.New(slog.DiscardHandler)))
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.reader = r
}

// away ends the reader, if there is one.
func (l *lived) away() {
	if l.reader != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = l.reader.Stop(ended)
		l.reader = nil
	}
}

// check looks at what was handled.
func (l *lived) check(seed uint64) {
	l.t.Helper()
	last := uint64(0)
	for _, serial := range l.got {
		if serial <= last {
			l.t.Fatalf("seed %d: message %d was handled after %d", seed, serial, last)
		}
		last = serial
		delete(l.accepted, serial)
	}
	if l.wrong != nil || len(l.accepted) > 0 && !l.lossy {
		l.t.Fatalf("seed %d: %v; %d of %d messages are missing", seed, l.wrong, len(l.accepted), l.serial)
	}
}
