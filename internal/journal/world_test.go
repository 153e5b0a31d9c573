// SPDX-License-Identifier: Apache-2.0

package journal_test

// A spool with a reader that remembers, over many lives.

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// messageText is what each message has behind its serial number.
const messageText = "some more of it"

// key is what a reader stores with the effect of a message.
type key struct {
	writer segment.WriterID
	number uint64
}

// A world is a disk, the reader of its messages, and what was promised to the program.
type world struct {
	t       *testing.T
	disk    *disktest.Disk
	log     *journal.Log
	start   journal.Start
	config  journal.Config
	boot    byte
	ids     byte
	serial  uint64                      // Of the next message of the program.
	known   map[key]uint64              // Serial of each message that was handled.
	met     map[segment.WriterID]bool   // The identities that were welcomed in this life.
	handled map[segment.WriterID]uint64 // What the reader remembers.
	stuck   bool                        // No identity can be welcomed in this life.
	refused map[uint64]bool             // The serials for which Append returned an error.
	got     map[uint64]int              // How often each serial was handled.
	last    uint64                      // Serial of the last message that was handled.
	loose   bool                        // Messages may come out of order.
	damage  []journal.Damage

	repeats  bool // Messages may come again under another identity.
	ahead    bool // The reader acknowledges late.
	repeated int
}

func newWorld(t *testing.T, config journal.Config) *world {
	w := &world{t: t, disk: disktest.New(), config: config, boot: 1, serial: 1,
		refused: map[uint64]bool{}, known: map[key]uint64{}, handled: map[segment.WriterID]uint64{}, got: map[uint64]int{}}
	w.config.NewWriter = func() segment.WriterID {
		w.ids++
		return segment.WriterID{w.ids, 0xff}
	}
	w.config.OnDamage = func(d journal.Damage) {
		w.damage = append(w.damage, d)
		if d.From < d.To && d.From <= w.handled[d.Writer] && !w.loose && w.disk.Fault == nil {
			t.Errorf("%+v is reported, but messages up to %d were handled", d, w.handled[d.Writer])
		}
	}
	return w
}

// tryOpen begins a life.
func (w *world) tryOpen() (err error) {
	w.config.Boot, w.met = [16]byte{w.boot}, map[segment.WriterID]bool{}
	w.stuck = false
	if w.log != nil {
		w.log.Close() // Its disk is gone, but its timer would try again for ever.
	}
	w.log, w.start, err = journal.Open(w.disk, w.config)
	return err
}

func (w *world) open() {
	w.t.Helper()
	if err := w.tryOpen(); err != nil {
		w.t.Fatal(err)
	}
}

// write appends messages as one. Each has its serial number.
func (w *world) write(count int) error {
	w.t.Helper()
	var frames []byte
	for i := range count {
		message := binary.LittleEndian.AppendUint64(make([]byte, 0, 40), w.serial+uint64(i))
		frames = wire.AppendFrame(frames, append(message, messageText...))
	}
	_, err := w.log.Append(frames, count)
	for i := range uint64(count) {
		w.refused[w.serial+i] = err != nil
	}
	w.serial += uint64(count) // A message that was refused is not written again.
	return err
}

// read handles what comes, at most so many batches, and acknowledges it.
func (w *world) read(batches int) { w.readMessages(batches, math.MaxInt) }

// readMessages is read of at most so many messages as well. The rest of the last batch comes in the next life.
func (w *world) readMessages(batches, messages int) {
	w.t.Helper()
	var late segment.WriterID // What was read ahead of is acknowledged before another identity begins.
	defer func() {
		if late != (segment.WriterID{}) {
			w.acknowledge(late)
		}
	}()
	for range batches {
		if w.stuck || messages <= 0 {
			return
		}
		b, err := w.log.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if late != (segment.WriterID{}) && late != b.Writer {
			w.acknowledge(late)
			late = segment.WriterID{}
		}
		if !w.met[b.Writer] {
			renewed := w.welcome(b.Writer)
			if w.stuck = !renewed && !w.met[b.Writer]; w.stuck {
				return
			}
			w.log.Rewind() // The reader may know of it, or it comes again under another identity.
			continue
		}
		rest := b.Frames
		for n := b.First; n < b.First+uint64(b.Count); n++ {
			length, size, _ := wire.ParsePrefix(rest)
			serial := binary.LittleEndian.Uint64(rest[size:])
			if text := string(rest[size+8 : size+int(length)]); text != messageText {
				w.t.Fatalf("message %d of writer %x is %q", n, b.Writer[0], text)
			}
			rest = rest[size+int(length):]
			if n <= w.handled[b.Writer] {
				if want, handled := w.known[key{b.Writer, n}]; handled && serial != want && !w.refused[serial] {
					w.t.Fatalf("message %d of writer %x is %d, and was %d; %s", n, b.Writer[0], serial, want, w)
				}
				continue // The reader knows it.
			}
			if messages--; messages < 0 {
				break
			}
			w.handled[b.Writer], w.known[key{b.Writer, n}] = n, serial
			w.got[serial]++
			if w.repeats && w.got[serial] > 1 {
				w.repeated++
				continue
			}
			if w.refused[serial] {
				continue // It is left of an attempt to write it.
			}
			if serial <= w.last && !w.loose {
				w.t.Fatalf("message %d was handled after %d; %s", serial, w.last, w)
			}
			w.last = serial
		}
		if w.ahead {
			late = b.Writer
			continue
		}
		w.acknowledge(b.Writer)
	}
}

// acknowledge tells the log what was handled.
func (w *world) acknowledge(writer segment.WriterID) {
	w.t.Helper()
	if err := w.log.Handled(writer, w.handled[writer], 0); err != nil {
		w.t.Fatal(err)
	}
	w.check()
}

// welcome opens the first session of an identity in this life, and reports whether it was given up. While the
// disk fails, it tries again.
func (w *world) welcome(writer segment.WriterID) (renewed bool) {
	w.t.Helper()
	if w.met[writer] {
		return false
	}
	renewed, err := w.log.Welcomed(writer, w.handled[writer])
	for i := 0; err != nil && i < 50 && w.disk.Fault != nil; i++ {
		w.check()
		renewed, err = w.log.Welcomed(writer, w.handled[writer])
	}
	if err != nil && w.disk.Fault == nil {
		w.t.Fatal(err)
	}
	w.check()
	w.met[writer] = !renewed && err == nil
	return renewed
}

// check compares the counts by their invariant.
func (w *world) check() {
	w.t.Helper()
	c := w.log.Counts()
	if c.Accepted+c.Found != c.Sent+c.Undelivered+c.Dropped+c.Expired+c.Damaged+c.Messages {
		w.t.Fatalf("the counts do not add up: %+v", c)
	}
	if end, left := w.log.End(), w.log.Left(); end != c.Accepted+c.Found || left > end-c.Messages {
		w.t.Fatalf("%d of %d messages have left: %+v", left, end, c)
	}
	if !w.log.SumIsRight() {
		w.t.Fatalf("%d bytes is not the sum of the segments", c.Bytes)
	}
}

// wantAll fails unless all messages below a serial number were handled once.
func (w *world) wantAll(below uint64) {
	w.t.Helper()
	for serial := uint64(1); serial < below; serial++ {
		if w.got[serial] != 1 {
			w.t.Fatalf("message %d was handled %d times; %s", serial, w.got[serial], w)
		}
	}
}

func (w *world) String() string {
	return fmt.Sprintf("start %+v, files %q, counts %+v, damage %+v", w.start, w.disk.Names(""), w.log.Counts(), w.damage)
}
