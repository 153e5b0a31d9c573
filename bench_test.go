// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// Both sides of every row of the speed budget, to be compared within one run:
//
//	go test -run '^$' -bench . -count 5 .
//
// BenchmarkStream is a Writer and a Reader, BenchmarkBareLoop a bufio.Writer and a bufio.Reader over
// the same kind of socket with the same frames and nothing else, BenchmarkRawSocket write and read of
// the same sizes without frames, BenchmarkOneCallAMessage one system call a message on either side.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var benchSizes = []struct {
	name  string
	bytes int
}{
	{"16B", 16}, {"128B", 128}, {"1KiB", 1 << 10}, {"4KiB", 4 << 10}, {"16KiB", 16 << 10},
	{"64KiB", 64 << 10}, {"256KiB", 256 << 10}, {"1MiB", 1 << 20},
}

// arrivals counts messages and says when all of them are there.
type arrivals struct {
	left atomic.Int64
	done chan struct{}
}

func expect(n int) *arrivals {
	a := &arrivals{done: make(chan struct{})}
	a.left.Store(int64(n))
	return a
}

func (a *arrivals) handle([]byte) error {
	if a.left.Add(-1) == 0 {
		close(a.done)
	}
	return nil
}

// stream sends b.N messages of size bytes from so many goroutines over so many Writers.
func stream(b *testing.B, size, producers, writers int, address string, opts ...udsipc.WriterOption) {
	a := expect(b.N)
	r := ipctest.StartReader(b, a.handle, address, udsipc.WithMaxConnections(writers))
	ws := make([]*udsipc.Writer, writers)
	for i := range ws {
		ws[i] = ipctest.StartWriter(b, address, append(opts, udsipc.WithOverflow(udsipc.OverflowBlock))...)
		if err := ws[i].WaitConnected(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			data := bytes.Repeat([]byte{'x'}, size)
			w := ws[p%writers]
			share := b.N / producers
			if p < b.N%producers {
				share++
			}
			for range share {
				if err := w.WriteMessage(data); err != nil {
					b.Error(err)
					return
				}
			}
			next.Add(int64(share))
		})
	}
	wg.Wait()
	<-a.done
	b.StopTimer()
	calls := float64(r.Metrics().Reads)
	for _, w := range ws {
		calls += float64(w.Metrics().Writes)
	}
	b.ReportMetric(calls/float64(b.N), "calls/op")
}

func BenchmarkStream(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) { stream(b, size.bytes, 1, 1, ipctest.SocketPath(b)) })
	}
}

// BenchmarkStreamAcknowledged is BenchmarkStream with acknowledgements: the last message is handled when
// it ends in either, and acknowledged soon after.
func BenchmarkStreamAcknowledged(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			stream(b, size.bytes, 1, 1, ipctest.SocketPath(b), udsipc.WithAcknowledgements())
		})
	}
}

func BenchmarkStreamTCP(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) { stream(b, size.bytes, 1, 1, ipctest.TcpAddress(b)) })
	}
}

func BenchmarkProducers(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { stream(b, 128, n, 1, ipctest.SocketPath(b)) })
	}
}

// BenchmarkWriters has so many Writers in one process, each with a producer and a queue of its own.
func BenchmarkWriters(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { stream(b, 128, n, n, ipctest.SocketPath(b)) })
	}
}

// BenchmarkConnections is a Reader under so many connections that all send, 32 KiB of frames at a
// time. The clients are bare sockets, so that it is the Reader that is measured.
func BenchmarkConnections(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const size, perBlock = 128, 250
			frame := append(binary.AppendUvarint(nil, size), make([]byte, size)...)
			block := bytes.Repeat(frame, perBlock)
			blocks := b.N/perBlock + 1
			a := expect(blocks * perBlock)
			path := ipctest.SocketPath(b)
			ipctest.StartReader(b, a.handle, path, udsipc.WithMaxConnections(n))
			var next atomic.Int64
			b.SetBytes(size)
			conns := make([]net.Conn, n)
			for i := range conns {
				conns[i] = ipctest.MustDial(b, path)
			}
			b.ResetTimer()
			for _, conn := range conns {
				go func() {
					for next.Add(1) <= int64(blocks) {
						if _, err := conn.Write(block); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			<-a.done
		})
	}
}

// BenchmarkBareLoop has bufio's default buffers of 4 KiB, BenchmarkBareLoop64K the best ones.
func BenchmarkBareLoop(b *testing.B)    { bareLoop(b, 4<<10) }
func BenchmarkBareLoop64K(b *testing.B) { bareLoop(b, 64<<10) }

func bareLoop(b *testing.B, buffer int) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			client, server := ipctest.SocketPair(b)
			data := bytes.Repeat([]byte{'x'}, size.bytes)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				w := bufio.NewWriterSize(client, buffer)
				var header [binary.MaxVarintLen64]byte
				for range b.N {
					w.Write(header[:binary.PutUvarint(header[:], uint64(len(data)))])
					w.Write(data)
				}
				w.Flush()
				client.CloseWrite()
			}()
			r := bufio.NewReaderSize(server, buffer)
			buf := make([]byte, size.bytes)
			for range b.N {
				n, err := binary.ReadUvarint(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, buf[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRawSocket(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			client, server := ipctest.SocketPair(b)
			data := bytes.Repeat([]byte{'x'}, size.bytes)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					client.Write(data)
				}
				client.CloseWrite()
			}()
			buf := make([]byte, size.bytes)
			for range b.N {
				if _, err := io.ReadFull(server, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOneCallAMessage is what a hand-made loop without a batch costs.
func BenchmarkOneCallAMessage(b *testing.B) {
	for _, size := range benchSizes[:3] {
		b.Run(size.name, func(b *testing.B) {
			client, server := ipctest.SocketPair(b)
			frame := binary.AppendUvarint(nil, uint64(size.bytes))
			frame = append(frame, bytes.Repeat([]byte{'x'}, size.bytes)...)
			b.SetBytes(int64(size.bytes))
			b.ResetTimer()
			go func() {
				for range b.N {
					client.Write(frame)
				}
				client.CloseWrite()
			}()
			r := bufio.NewReader(server)
			buf := make([]byte, size.bytes)
			for range b.N {
				n, err := binary.ReadUvarint(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, buf[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdleConnections reports what a connection costs that has been used and waits now: heap and
// stacks of the whole process, so the client's end is in it as well.
func BenchmarkIdleConnections(b *testing.B) {
	const n = 1000
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for range b.N {
		path := ipctest.SocketPath(b)
		a := expect(n)
		r := ipctest.StartReader(b, a.handle, path, udsipc.WithMaxConnections(n), udsipc.WithInactivityTimeout(0))
		conns := make([]net.Conn, n)
		before := memory()
		for i := range conns {
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = conn
			if _, err := conn.Write([]byte{1, 'x'}); err != nil {
				b.Fatal(err)
			}
		}
		<-a.done
		if got := r.Metrics().Connections; got != n {
			b.Fatalf("%d connections, want %d", got, n)
		}
		b.ReportMetric(float64(int64(memory()-before))/n, "B/conn")
		for _, conn := range conns {
			conn.Close()
		}
		ipctest.Stop(b, r)
	}
}

// BenchmarkReturn is the time from a reader's return to its first message, after an outage of 20 ms.
func BenchmarkReturn(b *testing.B) {
	path := ipctest.SocketPath(b)
	arrived := make(chan struct{}, 1)
	handler := func([]byte) error {
		select {
		case arrived <- struct{}{}:
		default:
		}
		return nil
	}
	r := ipctest.StartReader(b, handler, path)
	w := ipctest.StartWriter(b, path)
	var total time.Duration
	for range b.N {
		if err := w.WriteMessage([]byte("before")); err != nil {
			b.Fatal(err)
		}
		<-arrived
		time.Sleep(20 * time.Millisecond)
		ipctest.Stop(b, r)
		if err := w.WriteMessage([]byte("while away")); err != nil && !errors.Is(err, udsipc.ErrBufferFull) {
			b.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		r = ipctest.StartReader(b, handler, path)
		began := time.Now()
		<-arrived
		total += time.Since(began)
	}
	b.ReportMetric(float64(total.Microseconds())/1000/float64(b.N), "ms/return")
}

// BenchmarkFairness is the time from a write to the handler for messages of 100 quiet connections, each
// with ten of them a second, alone and beside one that sends as fast as it can.
func BenchmarkFairness(b *testing.B) {
	for _, loud := range []int{0, 1} {
		b.Run(fmt.Sprint("loud", loud), func(b *testing.B) { fairness(b, loud, 100) })
	}
}

func fairness(b *testing.B, loud, quiet int) {
	var mu sync.Mutex
	var took []time.Duration
	done := make(chan struct{})
	path := ipctest.SocketPath(b)
	ipctest.StartReader(b, func(data []byte) error {
		if data[0] != 'q' {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(data[1:])))))
		if len(took) == b.N {
			close(done)
		}
		return nil
	}, path)
	block := bytes.Repeat(append(binary.AppendUvarint(nil, 128), make([]byte, 128)...), 500)
	var wg sync.WaitGroup
	for range loud {
		conn := ipctest.MustDial(b, path)
		wg.Go(func() {
			for {
				if _, err := conn.Write(block); err != nil {
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	b.ResetTimer()
	for range quiet {
		conn := ipctest.MustDial(b, path)
		wg.Go(func() {
			frame := append([]byte{9, 'q'}, make([]byte, 8)...)
			for tick := time.NewTicker(100 * time.Millisecond); ; {
				binary.BigEndian.PutUint64(frame[2:], uint64(time.Now().UnixNano()))
				if _, err := conn.Write(frame); err != nil {
					b.Error(err)
				}
				select {
				case <-done:
					return
				case <-tick.C:
				}
			}
		})
		time.Sleep(time.Millisecond) // Not all in one moment.
	}
	<-done
	b.StopTimer()
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}
