// SPDX-License-Identifier: Apache-2.0

package queue_test

// Random histories of a queue against a model of its reader.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

var (
	queueSeeds = flag.Int("queue.seeds", 1000, "how many histories TestQueue_RandomHistories_KeepInvariants tries")
	queueFirst = flag.Uint64("queue.seed", 1, "its first seed")
)

// TestQueue_RandomHistories_KeepInvariants tries random histories of a queue: writes that wait, or
// not, or must not, flushes, writes to a connection that stop anywhere, acknowledgements, lost
// connections, limits, dropping, time, contexts that end.
func TestQueue_RandomHistories_KeepInvariants(t *testing.T) {
	t.Parallel()
	seeds := uint64(*queueSeeds)
	if testing.Short() {
		seeds = (seeds + 4) / 5
	}
	for i := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, *queueFirst+i)
			for step := 0; step < 100 && !t.Failed(); step++ {
				h.step()
				h.check()
			}
			h.end()
		})
		if t.Failed() {
			return
		}
	}
}

// A history is one run of the model.
type history struct {
	*testing.T
	seed    uint64
	rng     *rand.Rand
	config  queue.Limits
	q       testQueue
	last    uint64            // The ID of the last message; it is its first eight bytes.
	sizes   map[uint64]int    // By ID.
	numbers map[uint64]uint64 // With acks, the ID of each number that was sent.
	read    map[uint64]bool   // IDs.
	ahead   map[uint64]bool   // IDs of those that do not wait for their turn.
	nils    uint64            // Writes that returned nil.
	refused uint64
	waits   []*pending // In the order in which they came.
	flushes []*pending

	stream []byte   // What the connection has taken, but for whole messages.
	got    []uint64 // IDs of those, in order.
	base   uint64   // The number before the first of them.
	acked  uint64
	limit  uint64
}

// A pending call has not returned yet.
type pending struct {
	id     uint64
	target uint64 // Of a flush.
	cancel context.CancelFunc
	done   chan error
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{
		T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 2)), sizes: map[uint64]int{},
		numbers: map[uint64]uint64{}, read: map[uint64]bool{}, ahead: map[uint64]bool{},
	}
	h.config = queue.Limits{
		Messages:   uint64(1 + h.rng.IntN(30)),
		Bytes:      uint64(1000 + h.rng.IntN(1<<h.rng.IntN(19))),
		DropOldest: h.rng.IntN(2) == 0,
		Acks:       h.rng.IntN(2) == 0,
	}
	if h.rng.IntN(2) == 0 {
		h.config.MaxAge = 100 * time.Millisecond
	}
	h.q = queueOf(t, h.config)
	return h
}

func (h *history) failf(format string, arguments ...any) {
	h.Helper()
	h.Errorf("seed %d, %+v: "+format, append([]any{h.seed, h.config}, arguments...)...)
}

func (h *history) step() {
	switch h.rng.IntN(24) {
	case 0, 1, 2, 3, 4:
		h.push()
	case 5, 6, 7:
		h.pushWait()
	case 8, 9:
		h.flush()
	case 10:
		h.cancel(&h.waits)
	case 11:
		h.cancel(&h.flushes)
	case 12, 13, 14, 15, 16:
		h.write()
	case 17, 18:
		h.acknowledge()
	case 19:
		h.lose()
	case 20:
		h.refuseLarge()
	case 21:
		time.Sleep(time.Duration(h.rng.IntN(40)) * time.Millisecond)
	case 22:
		if h.rng.IntN(4) == 0 {
			data := h.message()
			h.ahead[h.last] = true
			_, _, err := h.q.EnqueueControl(data)
			h.accepted(err, true)
		}
	case 23:
		if room := h.q.NotifySpace(); room == nil && !h.q.CanFit(0) {
			h.failf("there is said to be room")
		}
	}
	synctest.Wait()
}

// message is the next message.
func (h *history) message() []byte {
	size := 8 + h.rng.IntN(200)
	switch h.rng.IntN(30) {
	case 0:
		size = 8 + h.rng.IntN(70_000)
	case 1:
		size = queue.ChunkSize - 3 + h.rng.IntN(4)
	case 2, 3:
		size = 8 + h.rng.IntN(30_000)
	}
	h.last++
	data := bytes.Repeat([]byte{byte(h.last)}, size)
	binary.LittleEndian.PutUint64(data, h.last)
	h.sizes[h.last] = size
	return data
}

// accepted counts the result of a write.
func (h *history) accepted(err error, want bool) {
	h.Helper()
	switch {
	case err == nil:
		h.nils++
	case errors.Is(err, errdefs.ErrBufferFull):
		h.refused++
		if want {
			h.failf("%v", err)
		}
	case !errors.Is(err, errdefs.ErrMessageTooLarge):
		h.failf("%v", err)
	}
}

func (h *history) push() {
	synctest.Wait()
	h.settle()
	data := h.message()
	before := h.q.State()
	err := h.q.EnqueueAndWake(data)
	h.accepted(err, false)
	after := h.q.State()
	switch full := errors.Is(err, errdefs.ErrBufferFull); {
	case full && after.Dropped > before.Dropped:
		h.failf("%d messages were dropped for one that was refused", after.Dropped-before.Dropped)
	case full && len(h.waits) == 0 && h.q.CanFit(len(data)):
		h.failf("a message of %d bytes was refused, for which there is room", len(data))
	case err == nil && len(h.waits) > 0:
		h.failf("a message has overtaken %d that wait", len(h.waits))
	}
}

// pushWait begins a write that waits for room.
func (h *history) pushWait() {
	ctx, cancel := context.WithCancel(h.Context())
	data := h.message()
	p := &pending{id: h.last, cancel: cancel, done: make(chan error, 1)}
	h.waits = append(h.waits, p)
	go func() { p.done <- h.q.EnqueueWaitAndWake(ctx, data) }()
}

func (h *history) flush() {
	ctx, cancel := context.WithCancel(h.Context())
	p := &pending{target: h.q.State().Accepted, cancel: cancel, done: make(chan error, 1)}
	h.flushes = append(h.flushes, p)
	go func() { p.done <- h.q.Flush(ctx) }()
}

func (h *history) cancel(calls *[]*pending) {
	if len(*calls) > 0 {
		(*calls)[h.rng.IntN(len(*calls))].cancel()
	}
}

// settle takes note of the calls that have returned.
func (h *history) settle() {
	waits := h.waits[:0]
	for _, p := range h.waits {
		select {
		case err := <-p.done:
			h.accepted(err, false)
			p.cancel()
		default:
			waits = append(waits, p)
		}
	}
	h.waits = waits
	flushes := h.flushes[:0]
	for _, p := range h.flushes {
		select {
		case err := <-p.done:
			if err != nil && !errors.Is(err, context.Canceled) {
				h.failf("Flush: %v", err)
			}
			p.cancel()
		default:
			flushes = append(flushes, p)
		}
	}
	h.flushes = flushes
}

// check is what holds whenever nothing runs.
func (h *history) check() {
	h.settle()
	if err := h.q.Check(); err != nil {
		h.failf("%v", err)
	}
	s := h.q.State()
	targets := map[uint64]bool{}
	for _, p := range h.flushes {
		targets[p.target] = true
	}
	switch producers, flushes := h.q.Waiting(); {
	case s.Accepted != s.Sent+s.Dropped+s.Expired+s.Undelivered+s.Queued || s.Accepted != h.nils || s.Refused != h.refused:
		h.failf("%+v, %d writes returned nil, %d were refused", s, h.nils, h.refused)
	case producers != len(h.waits):
		h.failf("%d producers wait, but %d in line", len(h.waits), producers)
	case flushes != len(targets):
		h.failf("flushes wait for %d different messages, but %d in line", len(targets), flushes)
	}
}

// write writes some of what is queued, while other things happen.
func (h *history) write() {
	bufs := h.q.take(1+h.rng.IntN(300_000), 1+h.rng.IntN(64))
	all := bytes.Join(bufs, nil)
	n := len(all)
	if h.rng.IntN(2) == 0 {
		n = h.rng.IntN(n + 1)
	}
	h.stream = append(h.stream, all[:n]...)
	h.parse()
	for range h.rng.IntN(4) {
		switch h.rng.IntN(5) {
		case 0:
			h.push()
		case 1:
			h.pushWait()
		case 2:
			h.acknowledge()
		case 3:
			h.cancel(&h.waits)
		case 4:
			time.Sleep(time.Duration(h.rng.IntN(100)) * time.Millisecond)
		}
		synctest.Wait()
		h.settle()
	}
	if !bytes.Equal(all, bytes.Join(bufs, nil)) {
		h.failf("what is being written has changed")
	}
	if len(bufs) == 0 {
		return
	}
	if _, err := h.q.MarkWritten(n); err != nil {
		h.failf("written: %v", err)
	}
}

// parse is the reader of the connection.
func (h *history) parse() {
	for {
		length, header, err := wire.ParsePrefix(h.stream)
		if err != nil {
			h.failf("%v", err)
			return
		}
		if header == 0 || uint64(len(h.stream)-header) < length {
			return
		}
		data := h.stream[header:][:length]
		h.stream = h.stream[header+int(length):]
		h.arrive(data)
	}
}

// arrive checks a message.
func (h *history) arrive(data []byte) {
	id := binary.LittleEndian.Uint64(data)
	if h.limit > 0 && uint64(len(data)) > h.limit {
		h.failf("message %d has %d bytes, the limit is %d", id, len(data), h.limit)
	}
	if len(data) != h.sizes[id] || bytes.Count(data[8:], []byte{byte(id)}) != len(data)-8 {
		h.failf("message %d is damaged", id)
	}
	if h.inTurn(id) {
		for i := len(h.got) - 1; i >= 0; i-- {
			if before := h.got[i]; h.inTurn(before) {
				if before >= id {
					h.failf("message %d came after %d", id, before)
				}
				break
			}
		}
	}
	h.got = append(h.got, id)
	number := h.base + uint64(len(h.got))
	switch {
	case !h.config.Acks && h.read[id]:
		h.failf("message %d came again", id)
	case h.config.Acks && h.numbers[number] != 0 && h.numbers[number] != id:
		h.failf("message %d has the number %d of message %d", id, number, h.numbers[number])
	}
	h.numbers[number] = id
	h.read[id] = true
}

// inTurn says whether a message comes before all later ones. One with a chunk of its own waits for its copy.
func (h *history) inTurn(id uint64) bool {
	return h.sizes[id] < queue.ChunkSize/2 && !h.ahead[id]
}

func (h *history) acknowledge() {
	top := h.base + uint64(len(h.got))
	if !h.config.Acks || top <= h.acked {
		return
	}
	h.acked += 1 + h.rng.Uint64N(top-h.acked)
	if _, err := h.q.Acknowledge(h.acked); err != nil {
		h.failf("acknowledge %d: %v", h.acked, err)
	}
}

// lose ends the connection and makes the next one.
func (h *history) lose() {
	partial, _ := h.q.Rewind()
	if !h.config.Acks && (partial > 0) != (len(h.stream) > 0) {
		h.failf("%d bytes of a message were taken, its number is %d", len(h.stream), partial)
	}
	h.stream, h.got = nil, nil
	if !h.config.Acks {
		h.setAside(partial)
		return
	}
	h.acked = max(h.acked, h.q.Sequence().Acked)
	h.base = h.acked
	h.limit = 0
	if h.rng.IntN(3) == 0 {
		h.limit = uint64(8 + h.rng.IntN(40_000))
	}
	if _, err := h.q.ApplyWelcome(h.acked, h.limit); err != nil {
		h.failf("resume: %v", err)
	}
}

// setAside takes out the message of which a part was taken, if it is still there.
func (h *history) setAside(number uint64) {
	if number == 0 || h.rng.IntN(3) > 0 {
		return
	}
	for range h.rng.IntN(3) {
		h.push()
	}
	before := h.q.State()
	data, ok := h.q.RemoveHead(number)
	gone := h.q.State()
	if ok != (gone.Undelivered == before.Undelivered+1) || ok && h.read[binary.LittleEndian.Uint64(data)] {
		h.failf("set aside %d bytes, %v: %+v", len(data), ok, gone)
	}
}

func (h *history) refuseLarge() {
	if !h.config.Acks {
		return
	}
	data, burnt := h.q.RemoveOversized()
	if data != nil && (h.limit == 0 || uint64(len(data)) <= h.limit) {
		h.failf("refused %d bytes, the limit is %d", len(data), h.limit)
	}
	if burnt {
		delete(h.numbers, h.q.Sequence().Acked)
		h.lose()
	}
}

// end lets the rest be delivered, or seals the queue.
func (h *history) end() {
	h.lose()
	h.q.ApplyWelcome(h.acked, 0)
	h.limit = 0
	for range 300 {
		if h.Failed() || h.q.State().Queued+uint64(len(h.waits)) == 0 {
			break
		}
		h.write()
		h.acknowledge()
		synctest.Wait()
		h.check()
	}
	synctest.Wait()
	h.check()
	if s := h.q.State(); s.Queued+s.QueuedBytes+uint64(len(h.waits)+len(h.flushes)) > 0 && !h.Failed() {
		h.failf("%+v, %d producers and %d flushes wait, and nothing goes on", s, len(h.waits), len(h.flushes))
	}
	h.fill()
	h.q.Close()
	synctest.Wait()
	for _, p := range h.waits {
		if err := <-p.done; !errors.Is(err, errdefs.ErrStopped) {
			h.failf("a producer that waits at the end: %v", err)
		}
	}
	h.waits = nil
	queued, visited := h.q.State().Queued, uint64(0)
	if left := h.q.DiscardAll(func([]byte) { visited++ }); left != queued || visited != left {
		h.failf("%d messages were left, %d visited, %d queued", left, visited, queued)
	}
	synctest.Wait()
	h.check()
	for _, p := range h.flushes {
		p.cancel()
	}
}

// fill has some producers wait, if the queue gets full.
func (h *history) fill() {
	for range 5 {
		h.flush()
		data := make([]byte, min(h.config.Bytes/2, 70_000))
		p := &pending{cancel: func() {}, done: make(chan error, 1)}
		go func() { p.done <- h.q.EnqueueWaitAndWake(h.Context(), data) }()
		h.waits = append(h.waits, p)
		synctest.Wait()
		h.settle()
	}
}
