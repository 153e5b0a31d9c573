// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func Ignore([]byte) error { return nil }

func StartReader(tb testing.TB, handler udsipc.MessageHandler, address string,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewReader(handler, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	MustListenAt(tb, r)
	tb.Cleanup(func() { Stop(tb, r) })
	return r
}

func StartDeliveryReader(tb testing.TB, handler udsipc.DeliveryHandler, address string,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewDeliveryReader(handler, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	MustListenAt(tb, r)
	tb.Cleanup(func() { Stop(tb, r) })
	return r
}

// Stop ends what a test began; 30 s are what a broken one may cost.
func Stop(tb testing.TB, s interface{ Stop(context.Context) error }) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("Stop: %v", err)
	}
}

func NewReader(tb testing.TB, address string, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewReader(Ignore, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Stop(tb, r) })
	return r
}

// Number is a message of size bytes, 8 at least, that begins with its number.
func Number(n uint64, size int) []byte {
	data := make([]byte, max(8, size))
	binary.BigEndian.PutUint64(data, n)
	return data
}

func NumberOf(data []byte) uint64 { return binary.BigEndian.Uint64(data) }

// sequence checks that numbers come once and in order.
type sequence struct {
	tb   testing.TB
	Mu   sync.Mutex
	Next uint64
	bad  int
	goal uint64
	Done chan struct{}
}

func (s *sequence) Handle(data []byte) error {
	number := binary.BigEndian.Uint64(data)
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if number != s.Next && s.bad < 5 {
		s.bad++
		s.tb.Errorf("got message %d, want %d", number, s.Next)
	}
	s.Next = number + 1
	if s.Next == s.goal {
		close(s.Done)
	}
	return nil
}

func NewSequence(tb testing.TB, goal uint64) *sequence {
	return &sequence{tb: tb, goal: goal, Done: make(chan struct{})}
}

// MemoryAllocated is how many bytes this process has ever allocated.
func MemoryAllocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

func HeapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Large is more than a Unix socket holds, so that its write is cut short when the connection ends.
const Large = 1 << 20
