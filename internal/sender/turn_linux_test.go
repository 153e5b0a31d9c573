// SPDX-License-Identifier: Apache-2.0

package sender

// Producers that are faster than the connection write themselves: the peer reads, does not, or ends.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// countTurns returns the number of turns that producers take. It is called before the first message.
func (l *testLoop) countTurns() *atomic.Int64 {
	n := new(atomic.Int64)
	l.queue.OnTurn(func(done <-chan struct{}) {
		n.Add(1)
		l.takeTurn(done)
	})
	return n
}

// floodLimits let producers wait for the connection, not for room.
var floodLimits = queue.Limits{Messages: 100_000, Bytes: 16 << 20}

// turnPatience returns how long to try to be faster than the connection. An emulator may not be.
func turnPatience() time.Duration {
	if os.Getenv("UDSIPC_TEST_EMULATED") != "" {
		return time.Second
	}
	return 20 * time.Second
}

// floods writes messages of size bytes until producers have taken turns, and returns how many. The peer must read. It
// skips the test on a machine that is too slow for turns.
func (l *testLoop) floods(turns *atomic.Int64, size int) (messages int) {
	l.Helper()
	data := make([]byte, size)
	began := time.Now()
	for until := turns.Load() + 10; turns.Load() < until; messages++ {
		if messages%1000 == 999 && time.Since(began) > turnPatience() {
			l.Skip("no producer was faster than the connection")
		}
		if err := l.queue.EnqueueWaitAndWake(l.Context(), data); err != nil {
			l.Fatal(err)
		}
	}
	return messages
}

// TestLoop_ProducersInTurn_KeepOrder: what they write arrives once, whole and in order.
func TestLoop_ProducersInTurn_KeepOrder(t *testing.T) {
	for _, size := range []int{1000, 16 << 10, 100 << 10, 1 << 20} {
		l, far := unixLoopOf(t, floodLimits)
		turns := l.countTurns()
		messages := make(chan int, 1)
		read := make(chan error, 1)
		go func() { // Ends with the connection.
			read <- wantNumbered(far, size, messages)
		}()
		data, n, began := make([]byte, size), 0, time.Now()
		for ; n < 64<<20/size || turns.Load() < 10 && time.Since(began) < turnPatience(); n++ {
			copy(data, []byte{byte(n >> 16), byte(n >> 8), byte(n)})
			if err := l.queue.EnqueueWaitAndWake(t.Context(), data); err != nil {
				t.Fatal(err)
			}
		}
		messages <- n
		if err := l.Stop(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
		if err := <-read; err != nil {
			t.Errorf("messages of %d bytes: %v", size, err)
		}
		if got := l.queue.ReadCounts(); got.Sent != uint64(n)+1 {
			t.Errorf("%d of %d messages are sent", got.Sent, n+1)
		}
	}
}

// wantNumbered reads the message of unixLoop, and messages with their numbers until the end of the connection.
func wantNumbered(far net.Conn, size int, messages <-chan int) error {
	if _, err := io.ReadFull(far, make([]byte, len(wire.AppendFrame(nil, []byte("a"))))); err != nil {
		return err
	}
	want := wire.AppendFrame(nil, make([]byte, size))
	at := len(want) - size
	got := make([]byte, len(want))
	for n := 0; ; n++ {
		_, err := io.ReadFull(far, got)
		copy(want[at:], []byte{byte(n >> 16), byte(n >> 8), byte(n)})
		switch {
		case err == io.EOF && n == <-messages:
			return nil
		case err != nil:
			return err
		case !bytes.Equal(got, want):
			return errors.New("another message than the next one, or a part of it")
		}
	}
}

// TestLoop_PeerStopsReading_ProducersGoOn: a producer in its turn leaves the rest to the loop, the queue takes what it
// may, and nothing is lost when the peer reads again.
func TestLoop_PeerStopsReading_ProducersGoOn(t *testing.T) {
	l, far := unixLoopOf(t, floodLimits)
	turns := l.countTurns()
	stop, stopped := make(chan struct{}), make(chan int64, 1)
	go func() { // Ends when the peer is to stop reading.
		var n int64
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				got, _ := io.CopyN(io.Discard, far, 10_000)
				n += got
			}
		}
	}()
	const size = 4000
	messages := l.floods(turns, size)
	close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var err error
	for data := make([]byte, size); err == nil; {
		if err = l.queue.EnqueueWaitAndWake(ctx, data); err == nil {
			messages++
		}
	}
	if !errors.Is(err, errdefs.ErrBufferFull) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want %v", err, errdefs.ErrBufferFull)
	}
	if held := l.queue.ReadCounts().QueuedBytes; held < floodLimits.Bytes-2*size {
		t.Errorf("the queue holds %d bytes of %d", held, floodLimits.Bytes)
	}
	total := int64(len(wire.AppendFrame(nil, []byte("a"))) + messages*len(wire.AppendFrame(nil, make([]byte, size))))
	rest := make(chan int64, 1)
	go func() { // Ends with the connection.
		n := <-stopped
		got, _ := io.Copy(io.Discard, far)
		rest <- n + got
	}()
	if err := l.Stop(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
	if got := <-rest; got != total {
		t.Errorf("%d bytes came, want %d", got, total)
	}
}

// TestLoop_PeerEndsInTurn_IsAccountedFor: the error of a producer's write ends the connection.
func TestLoop_PeerEndsInTurn_IsAccountedFor(t *testing.T) {
	l, far := unixLoopOf(t, floodLimits)
	turns := l.countTurns()
	read := make(chan struct{})
	go func() { // Ends with far.
		defer close(read)
		_, _ = io.Copy(io.Discard, far)
	}()
	messages := uint64(l.floods(turns, 4000)) + 1
	far.Close()
	<-read
	data := make([]byte, 4000)
	for range 1000 {
		if err := l.queue.EnqueueWaitAndWake(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		messages++
	}
	if err := l.Stop(within(t, 100*time.Millisecond)); err == nil {
		t.Error("Stop has not reported the loss")
	}
	counts, queued := l.Snapshot(), l.queue.ReadCounts()
	if queued.Accepted != messages || queued.Sent+queued.Undelivered != messages || counts.LostConnections == 0 ||
		queued.Undelivered == 0 {
		t.Errorf("%d messages: %+v, %+v", messages, counts, queued)
	}
}

// TestLoop_EndOfFlood_IsWritten: what is too little for a turn does not stay.
func TestLoop_EndOfFlood_IsWritten(t *testing.T) {
	l, far := unixLoopOf(t, floodLimits)
	turns := l.countTurns()
	var came atomic.Int64
	go func() { // Ends with the connection.
		buf := make([]byte, 64<<10)
		for {
			n, err := far.Read(buf)
			came.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	total := int64(len(wire.AppendFrame(nil, []byte("a"))))
	for range 20 {
		n := l.floods(turns, 4000)
		total += int64(n * len(wire.AppendFrame(nil, make([]byte, 4000))))
		for deadline := time.Now().Add(30 * time.Second); came.Load() < total; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes of %d came", came.Load(), total)
			}
		}
	}
	if err := l.Stop(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

// TestLoop_LateTurnReset_IsAccountedFor: a producer gets its turn so late that the loop waits for work
// again. The kernel reports an error once, to the producer: the message before is possibly lost.
func TestLoop_LateTurnReset_IsAccountedFor(t *testing.T) {
	losesToReset(t, func(l *testLoop, far net.Conn) {
		if _, idle, err := l.queue.Enqueue([]byte("b")); !idle || err != nil {
			t.Fatal(idle, err)
		}
		far.Close() // With unread bytes: a reset.
		l.takeTurn(nil)
	})
}
