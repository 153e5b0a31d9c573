// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
)

// Ignore is a handler that does nothing.
func Ignore([]byte) error { return nil }

// StartReader returns a started Reader that is stopped at the end of the test.
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

// StartDeliveryReader is StartReader for a DeliveryHandler.
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

// StartBatchReader is StartReader for a BatchHandler.
func StartBatchReader(tb testing.TB, handler udsipc.BatchHandler, address string,
	opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewBatchReader(handler, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	MustListenAt(tb, r)
	tb.Cleanup(func() { Stop(tb, r) })
	return r
}

// Stop stops s, within 30 s.
func Stop(tb testing.TB, s interface{ Stop(context.Context) error }) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("Stop: %v", err)
	}
}

// NewReader returns a Reader that is not started. It is stopped at the end of the test.
func NewReader(tb testing.TB, address string, opts ...udsipc.ReaderOption) *udsipc.Reader {
	tb.Helper()
	r, err := udsipc.NewReader(Ignore, address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Stop(tb, r) })
	return r
}

// Number returns a message of size bytes, at least 8, that begins with n.
func Number(n uint64, size int) []byte {
	data := make([]byte, max(8, size))
	binary.BigEndian.PutUint64(data, n)
	return data
}

// NumberOf returns the number of a message of Number.
func NumberOf(data []byte) uint64 { return binary.BigEndian.Uint64(data) }

// sequence is a handler that checks that the messages of Number come once and in order.
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

// NewSequence returns a sequence that closes Done after goal messages.
func NewSequence(tb testing.TB, goal uint64) *sequence {
	return &sequence{tb: tb, goal: goal, Done: make(chan struct{})}
}

// MemoryAllocated returns how many bytes this process has allocated so far.
func MemoryAllocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// HeapInUse returns the bytes of live objects after a garbage collection.
func HeapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Large is more than a Unix socket holds: a write of it is incomplete when the connection ends.
const Large = 1 << 20
