// SPDX-License-Identifier: Apache-2.0

package sender_test

// What waits for a Writer's queue (producers for room, Flush for messages to leave), and what the program is told
// of messages that were dropped or lost.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// awayFor are the ways in which nothing leaves a Writer's queue for long: the state of its goroutine differs.
var awayFor = []struct {
	name  string
	start bool
	opts  []udsipc.WriterOption
}{
	{"before Start", false, nil},
	{"nobody listens", true, []udsipc.WriterOption{
		udsipc.WithDialer(func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }),
	}},
	{"nobody welcomes", true, []udsipc.WriterOption{
		udsipc.WithAcknowledgements(), udsipc.WithHeartbeatTimeout(0), udsipc.WithDialer(dialDeaf),
	}},
}

// dialDeaf connects to a peer that takes every byte and says nothing.
func dialDeaf(context.Context) (net.Conn, error) {
	l := ipctest.NewSimLink(new(ipctest.SimNet))
	l.Room(0, 1<<30)
	return l.Ends[0], nil
}

// dialFull connects to a peer that takes no byte.
func dialFull(context.Context) (net.Conn, error) {
	l := ipctest.NewSimLink(new(ipctest.SimNet))
	l.Room(0, 0)
	return l.Ends[0], nil
}

func overAway(t *testing.T, test func(t *testing.T, newWriter func(...udsipc.WriterOption) *udsipc.Writer)) {
	for _, away := range awayFor {
		t.Run(away.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(t, func(opts ...udsipc.WriterOption) *udsipc.Writer {
					w := ipctest.NewWriter(t, "x", append(opts, away.opts...)...)
					if away.start {
						ipctest.MustStart(t, w)
					}
					return w
				})
			})
		})
	}
}

// TestQueue_Expiry_EndsWaits: messages become too old while nothing else happens. That lets a
// blocked producer and a Flush go on, at that very time.
func TestQueue_Expiry_EndsWaits(t *testing.T) {
	const age = 50 * time.Millisecond
	overAway(t, func(t *testing.T, newWriter func(...udsipc.WriterOption) *udsipc.Writer) {
		w := newWriter(udsipc.WithMaxAge(age), udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBufferedWrites(2))
		for range 5 {
			began := time.Now()
			ipctest.MustWriteMessage(t, w, "1")
			ipctest.MustWriteMessage(t, w, "2")
			ipctest.MustWriteMessage(t, w, "3")
			if took := time.Since(began); took < age || took > age+time.Millisecond {
				t.Errorf("the third message waited for %v, want %v", took, age)
			}
			if err := w.Flush(t.Context()); !strings.Contains(fmt.Sprint(err), "3 messages were not delivered") {
				t.Errorf("Flush: %v", err)
			}
			if took := time.Since(began); took < 2*age || took > 2*age+2*time.Millisecond {
				t.Errorf("Flush returned after %v, want %v", took, 2*age)
			}
		}
	})
}

// TestQueue_Dropping_EndsFlush: everything that was written before a Flush is dropped.
func TestQueue_Dropping_EndsFlush(t *testing.T) {
	overAway(t, func(t *testing.T, newWriter func(...udsipc.WriterOption) *udsipc.Writer) {
		w := newWriter(udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxBufferedWrites(10))
		for range 10 {
			ipctest.MustWriteMessage(t, w, "old")
		}
		flushed := make(chan error, 1)
		go func() { flushed <- w.Flush(t.Context()) }()
		synctest.Wait()
		for range 10 {
			if len(flushed) > 0 {
				t.Fatal("Flush returned early")
			}
			ipctest.MustWriteMessage(t, w, "new")
		}
		synctest.Wait()
		select {
		case err := <-flushed:
			if !strings.Contains(fmt.Sprint(err), " 10 messages") {
				t.Errorf("Flush: %v", err)
			}
		default:
			t.Error("Flush still waits")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = w.Stop(ctx)
			<-flushed
		}
	})
}

// TestQueue_DropOldest_DropsOnlyIfItHelps: where what is being written leaves too little room, nothing is dropped for a
// message that is refused all the same.
func TestQueue_DropOldest_DropsOnlyIfItHelps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ipctest.NewWriter(t, "x", udsipc.WithOverflow(udsipc.OverflowDropOldest),
			udsipc.WithMaxBufferedBytes(1000), udsipc.WithDialer(dialFull))
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, strings.Repeat("under way", 66)) // A frame of 596 bytes.
		synctest.Wait()
		for range 3 {
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", 100)) // Of 101.
		}
		for _, test := range []struct {
			size    int
			dropped uint64
			refused uint64
		}{
			{900, 0, 1},
			{403, 0, 2}, // One byte too many beside the first message.
			{202, 2, 2},
			{402, 4, 2},
		} {
			err := w.WriteMessage(make([]byte, test.size))
			if m := w.Metrics(); m.Dropped != test.dropped || m.Refused != test.refused {
				t.Errorf("%d bytes: %v; %d dropped, %d refused, want %d and %d", test.size, err,
					m.Dropped, m.Refused, test.dropped, test.refused)
			}
		}
	})
}

// TestQueue_BlockedProducers_AreServedInOrder: who waits for room gets it in the order in which
// they came, a large message too, and nobody overtakes them. One that does not wait any longer
// leaves its place.
func TestQueue_BlockedProducers_AreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers = 20
		n := new(ipctest.SimNet)
		n.Refuse(true)
		w := ipctest.NewWriter(t, "x", udsipc.WithDialer(n.Dial), udsipc.WithMaxBufferedBytes(100_000))
		ipctest.MustStart(t, w)
		fill := strings.Repeat("f", 99_000)
		ipctest.MustWriteMessage(t, w, fill)
		message := func(i int) string {
			size := 2000 // More than is left.
			if i == 5 || i == 6 {
				size = 80_000
			}
			return strings.Repeat(string(rune('a'+i)), size)
		}
		ctxs := make([]context.CancelFunc, producers)
		results := make([]error, producers)
		var wg sync.WaitGroup
		for i := range producers {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctxs[i] = cancel
			wg.Go(func() { results[i] = w.WriteMessageContext(ctx, []byte(message(i))) })
			synctest.Wait()
		}
		if err := w.WriteMessage([]byte("overtakes")); !errors.Is(err, udsipc.ErrBufferFull) {
			t.Errorf("a message that would fit, before those that wait: %v", err)
		}
		for _, i := range []int{0, 6, producers - 1} { // The first, one in the middle, the last.
			ctxs[i]()
		}
		synctest.Wait()
		var want []string
		for i := range producers {
			if i != 0 && i != 6 && i != producers-1 {
				want = append(want, message(i))
			}
		}
		var got []string
		r := ipctest.StartReader(t, func(data []byte) error {
			if len(data) != len(fill) {
				got = append(got, string(data))
			}
			return nil
		}, "x", udsipc.WithListener(n.Listen()))
		n.Refuse(false)
		wg.Wait()
		for i, err := range results {
			if left := i == 0 || i == 6 || i == producers-1; left != errors.Is(err, context.Canceled) ||
				left != errors.Is(err, udsipc.ErrBufferFull) {
				t.Errorf("producer %d: %v", i, err)
			}
		}
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		// The large one has its room in its turn, and is copied outside the lock: others may be put before it.
		large := slices.Index(got, message(5))
		if large < 4 {
			t.Fatalf("the large message is number %d of %d", large, len(got))
		}
		got = slices.Insert(slices.Delete(got, large, large+1), 4, message(5))
		if !slices.Equal(got, want) {
			t.Errorf("%d messages, want %d in the order of the producers", len(got), len(want))
			for _, data := range got {
				t.Logf("%c: %d", data[0], len(data))
			}
		}
		if m := w.Metrics(); m.Refused != 4 || m.Sent != producers-2 {
			t.Errorf("%+v", m)
		}
	})
}

// TestWriter_ConcurrentFlushes_ReportEachMessageOnce: however many Flushes run at once, together
// they tell of each message once.
func TestWriter_ConcurrentFlushes_ReportEachMessageOnce(t *testing.T) {
	t.Parallel()
	w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxAge(time.Nanosecond))
	number := regexp.MustCompile(`(\d+) messages? w(?:as|ere) not delivered`)
	var told atomic.Uint64
	tell := func(err error) {
		if parts := number.FindStringSubmatch(fmt.Sprint(err)); parts != nil {
			n, err := strconv.ParseUint(parts[1], 10, 64)
			if err != nil || n > 1_000_000 {
				t.Errorf("told of %s messages: %v", parts[1], err)
			}
			told.Add(n)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3000 {
				_ = w.WriteMessage([]byte("too old")) // It may also find the queue full.
				tell(w.Flush(t.Context()))
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tell(w.Stop(ctx))
	if m := w.Metrics(); m.Expired != told.Load() || m.Expired == 0 {
		t.Errorf("told of %d messages, want %d", told.Load(), m.Expired)
	}
}

// TestQueue_EndedFlush_KeepsNoMemory: a Flush whose context ends keeps no memory.
func TestQueue_EndedFlush_KeepsNoMemory(t *testing.T) {
	w := ipctest.NewWriter(t, ipctest.SocketPath(t))
	ipctest.MustWriteMessage(t, w, "waits for a reader")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	const n = 5000
	before := ipctest.HeapInUse()
	for range n {
		if err := w.Flush(ended); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if grown := int64(ipctest.HeapInUse()) - int64(before); grown > 30*n {
		t.Errorf("%d Flushes keep %d bytes", n, grown)
	}
}

// TestQueue_Refusal_CopiesNothing: a message that is refused is not copied, whatever the reason.
func TestQueue_Refusal_CopiesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // So that the context ends while the message waits.
		const size = 20 << 20
		full := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxBufferedWrites(1), udsipc.WithMaxMessageSize(size))
		ipctest.MustWriteMessage(t, full, "the queue is full")
		stopped := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxMessageSize(size))
		ipctest.Stop(t, stopped)
		small := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxMessageSize(size),
			udsipc.WithMaxBufferedBytes(size))
		ended, cancel := context.WithCancel(t.Context())
		defer cancel()
		data := make([]byte, size)
		for _, test := range []struct {
			name  string
			write func() error
			want  error
		}{
			{"full", func() error { return full.WriteMessage(data) }, udsipc.ErrBufferFull},
			{"full until the context ends", func() error {
				time.AfterFunc(time.Millisecond, cancel)
				return full.WriteMessageContext(ended, data)
			}, udsipc.ErrBufferFull},
			{"stopped", func() error { return stopped.WriteMessage(data) }, udsipc.ErrStopped},
			{"too large for the queue", func() error { return small.WriteMessage(data) }, udsipc.ErrMessageTooLarge},
		} {
			var before, after runtime.MemStats
			ipctest.HeapInUse() // Empties the pool.
			runtime.ReadMemStats(&before)
			err := test.write()
			runtime.ReadMemStats(&after)
			if !errors.Is(err, test.want) || after.TotalAlloc-before.TotalAlloc > size/10 {
				t.Errorf("%s: %v, want %v; %d bytes were allocated", test.name, err, test.want, after.TotalAlloc-before.TotalAlloc)
			}
		}
	})
}

// TestWriter_Drops_AreReported: messages that are dropped or expire before the first write, before
// Start and at the end are reported, and Stop tells of them.
func TestWriter_Drops_AreReported(t *testing.T) {
	t.Parallel()
	overAway(t, func(t *testing.T, newWriter func(...udsipc.WriterOption) *udsipc.Writer) {
		for _, test := range []struct {
			opts []udsipc.WriterOption
			want string
		}{
			{[]udsipc.WriterOption{udsipc.WithMaxAge(30 * time.Millisecond)}, `(\d+) messages? w(?:as|ere) older`},
			{[]udsipc.WriterOption{
				udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxBufferedWrites(1),
			}, `oldest (\d+) messages? w(?:as|ere) dropped`},
		} {
			errs := ipctest.Collect()
			w := newWriter(append(test.opts, udsipc.WithMaxBackoff(time.Millisecond),
				udsipc.WithWriterErrorCallback(errs.Callback))...)
			for range 5 {
				ipctest.MustWriteMessage(t, w, "old")
			}
			time.Sleep(2 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := w.Stop(ctx)
			cancel()
			m := w.Metrics()
			if !errors.Is(err, udsipc.ErrStopped) || !strings.Contains(err.Error(),
				errdefs.CountIs(m.Dropped+m.Expired, "was", "were")+" not delivered") {
				t.Errorf("Stop: %v; %+v", err, m)
			}
			reported, number := uint64(0), regexp.MustCompile(test.want)
			for range len(errs.Events) {
				if parts := number.FindStringSubmatch((<-errs.Events).Error()); parts != nil {
					n, _ := strconv.ParseUint(parts[1], 10, 64)
					reported += n
				}
			}
			if reported != m.Dropped+m.Expired || reported < 4 {
				t.Errorf("%d messages were reported, want %d", reported, m.Dropped+m.Expired)
			}
		}
	})
}

// TestWriter_Expiry_IsReportedInTime: while nobody listens, without a write or an attempt to connect.
func TestWriter_Expiry_IsReportedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := ipctest.Collect()
		w := ipctest.NewWriter(t, "x", udsipc.WithMaxAge(time.Second), udsipc.WithDialer(dialFull),
			udsipc.WithWriteTimeout(time.Hour),
			udsipc.WithWriterErrorCallback(errs.Callback))
		ipctest.MustWriteMessage(t, w, "too old")
		time.Sleep(time.Second + time.Millisecond)
		ipctest.MustStart(t, w)
		synctest.Wait()
		if len(errs.Events) != 1 {
			t.Errorf("%d reports at Start, want 1", len(errs.Events))
		}
	})
}

// TestWriter_ReaderKilledDuringStop_ReportsLoss: the reader is killed while Stop waits until it has read everything.
func TestWriter_ReaderKilledDuringStop_ReportsLoss(t *testing.T) {
	if !ipctest.TellsCredentials {
		t.Skip("the kernel does not tell what was read")
	}
	const n = 100
	path := ipctest.SocketPath(t)
	l := ipctest.MustListen(t, path)
	w := ipctest.StartedWriter(t, path)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		ipctest.MustWriteMessage(t, w, "never read")
	}
	ipctest.Until(t, "they are with the kernel", func() bool { return w.Metrics().Sent == n })
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(t.Context()) }()
	ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(w.WriteMessage(nil), udsipc.ErrStopped) })
	conn.Close()
	l.Close()
	err = ipctest.Await(t, "Stop", stopped)
	m := w.Metrics()
	want := fmt.Sprintf("up to %s may be lost", errdefs.Count(m.Accepted))
	if !errors.Is(err, udsipc.ErrStopped) || !strings.Contains(err.Error(), want) {
		t.Errorf("Stop: %v, want %q; %+v", err, want, m)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
}
