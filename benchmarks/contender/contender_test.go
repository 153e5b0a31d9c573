// SPDX-License-Identifier: Apache-2.0

package contender_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// TestContenders_Deliver_EachMessageOnce shows that every contender delivers each message once,
// whole and in order. Its rate would mean nothing without that.
func TestContenders_Deliver_EachMessageOnce(t *testing.T) {
	for _, c := range contender.All {
		for _, size := range []int{128, 1 << 10, 64 << 10, 1 << 20} {
			t.Run(fmt.Sprint(c.Name, "/", size), func(t *testing.T) {
				if c.Missing != "" {
					t.Skip(c.Missing)
				}
				if c.Largest > 0 && size > c.Largest {
					t.Skip("larger than its largest message")
				}
				deliver(t, c, size)
			})
		}
	}
}

// deliver sends 16 MiB, twice what the NATS window holds, so that every flow control is met.
// Messages of 128 bytes are an eighth of that.
func deliver(t *testing.T, c contender.Contender, size int) {
	messages := uint64(min(16<<20/size, 16<<10))
	var received atomic.Uint64
	done := make(chan struct{})
	seen := make([]bool, messages+1)
	end := contender.End{Dir: t.TempDir(), Size: size, Fail: func(err error) { t.Error(err) }}
	receiver, err := c.Listen(end, func(data []byte) {
		n := received.Add(1)
		if len(data) != size {
			t.Errorf("message %d has %d bytes, want %d", n, len(data), size)
			return
		}
		got := binary.BigEndian.Uint64(data)
		if got > messages || seen[got] || got != n && !c.Unordered {
			t.Errorf("message %d is number %d", n, got)
			return
		}
		seen[got] = true
		if n == messages {
			close(done)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnd(t, receiver)
	sender, err := c.Dial(end)
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnd(t, sender)

	slots := 1
	if c.Keeps {
		slots = contender.Kept
	}
	ring := make([]byte, slots*size)
	for n := range messages {
		data := ring[int(n)%slots*size:][:size]
		binary.BigEndian.PutUint64(data, n+1)
		if err := sender.Send(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d messages arrived, want %d", received.Load(), messages)
	}
}

func closeEnd(t *testing.T, end io.Closer) {
	if err := end.Close(); err != nil {
		t.Error(err)
	}
}

// TestRaw_Repeat_SendsEachMessage shows that a block of equal messages is the same as one after the
// other.
func TestRaw_Repeat_SendsEachMessage(t *testing.T) {
	c, ok := contender.Named("raw socket, no frames")
	if !ok {
		t.Fatal("no such contender")
	}
	const size, messages = 1000, 650
	received, done := 0, make(chan struct{})
	end := contender.End{Dir: t.TempDir(), Size: size, Fail: func(err error) { t.Error(err) }}
	receiver, err := c.Listen(end, func(data []byte) {
		if want := byte(received / 65); data[0] != want || data[size-1] != want {
			t.Errorf("message %d begins with %d and ends with %d, want %d", received, data[0], data[size-1], want)
		}
		if received++; received == messages {
			close(done)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnd(t, receiver)
	sender, err := c.Dial(end)
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnd(t, sender)
	for i := range messages / 65 {
		data := make([]byte, size)
		for k := range data {
			data[k] = byte(i)
		}
		if err := sender.(contender.Repeater).Repeat(data, 65); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("messages are missing")
	}
}
