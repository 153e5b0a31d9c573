// SPDX-License-Identifier: Apache-2.0

package rpc_test

// This file is the clients of TestStreamModel that read nothing, and what they may cost.

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What a server is allowed to hold in a schedule.
const (
	callLimit   = 64
	memoryLimit = 8 << 20
)

// resources returns the goroutines and the memory of the process.
func resources() (r struct{ goroutines, memory int }) {
	runtime.GC()
	runtime.GC() // What is pooled goes at the second.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.goroutines, r.memory = runtime.NumGoroutine(), int(m.HeapAlloc)
	return r
}

// startSilent starts the clients that read nothing, waits until the server takes no more of them,
// and checks what it holds.
func (w *streamWorld) startSilent(t *testing.T, random *rand.Rand,
	before struct{ goroutines, memory int }) (stop func()) {
	var writing sync.WaitGroup
	var progress atomic.Int64
	var conns []net.Conn
	kind := random.IntN(6)
	for range w.silent {
		conn, err := net.Dial("unix", w.address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		choices := rand.New(rand.NewPCG(random.Uint64(), 0))
		writing.Go(func() {
			for n := range uint64(400) {
				written, err := conn.Write(w.silentMessages(choices, kind, n+1))
				if progress.Add(int64(written)); err != nil {
					return
				}
			}
		})
	}
	stop = func() {
		for _, conn := range conns {
			conn.Close()
		}
		writing.Wait()
	}
	if w.silent == 0 {
		return stop
	}
	for last, began := int64(-1), time.Now(); last != progress.Load() &&
		time.Since(began) < 5*time.Second; time.Sleep(50 * time.Millisecond) {
		last = progress.Load()
	}
	// A stream has two goroutines, a connection a few at either side.
	goroutines := 4*callLimit + 6*w.silent + 40
	// The limit may be exceeded by as much. Behind a message that waits, its stream has another
	// one, and its handler the next. Each connection has its queue.
	memory := 3*2*memoryLimit + (w.silent+2)<<20 + 16<<20
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		now := resources()
		now.goroutines -= before.goroutines
		now.memory -= before.memory
		if now.goroutines <= goroutines && now.memory <= memory {
			return stop
		}
		if time.Since(began) > 3*time.Second { // The clients and the handlers have come to rest.
			t.Errorf("%d clients that read nothing (kind %d): %d goroutines of %d, %d MiB of %d",
				w.silent, kind, now.goroutines, goroutines, now.memory>>20, memory>>20)
			return stop
		}
	}
}

// silentMessages returns what a client that reads nothing sends next.
func (w *streamWorld) silentMessages(random *rand.Rand, kind int, n uint64) []byte {
	large := w.serverLimit - 100
	if kind == 5 || random.IntN(8) == 0 {
		kind = random.IntN(5)
	}
	switch kind {
	case 0: // Much to send back.
		return rawCall(n, "echo", make([]byte, large))
	case 1:
		return rawCall(n, "large", nil)
	case 2: // Errors, which are not waited for by anybody.
		return append(rawCall(n, "large", nil), rawCall(n+1000, string(make([]byte, large)), nil)...)
	case 3: // A stream that nobody receives, up to its window.
		b := rawOpen(n, "unread", 64<<20)
		for range 4 {
			data := append(binary.AppendUvarint(nil, uint64(large-50)), make([]byte, large-50)...)
			b = append(b, rawFrame(append(binary.AppendUvarint([]byte{7}, n), data...))...)
		}
		return b
	default: // A window of 64 MiB that is never read.
		return rawOpen(n, "flood", 64<<20)
	}
}

// rawOpen is the message that opens a stream.
func rawOpen(id uint64, method string, window uint64) []byte {
	body := append(binary.AppendUvarint([]byte{6}, id), 0, byte(len(method)))
	return rawFrame(binary.AppendUvarint(append(body, method...), window))
}

func rawFrame(body []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}
