// SPDX-License-Identifier: Apache-2.0

// Benchmarks compares udsipc with what else streams messages between processes of one machine. It
// prints a Markdown table of medians, taken in one run, round by round:
//
//	go run .
//	go run . -rounds 9 -test.benchtime 2s
//	go run . -calls
//
// Every contender gets each message from one producer to one consumer over a real socket; the clock
// stops when the consumer has counted the last one. "go test -bench ." measures the same.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

// A contender moves messages. open connects a producer with a consumer, which calls receive for each
// message, from one goroutine at a time; data is valid until receive returns. It returns how to send a
// message, which must not change afterwards, and how to push out what is still buffered.
type contender struct {
	name string
	open func(tb testing.TB, receive func(data []byte)) (send func(data []byte) error, flush func() error)
}

var contenders = []contender{
	{"udsipc", openUDSIPC},
	{"Unix socket, a system call per message", openUnix},
	{"Unix datagrams", openUnixgram},
	{"gRPC client streaming, Unix socket", openGRPC},
	{"NATS core, loopback", openNATS},
}

var sizes = []struct {
	name  string
	bytes int
}{{"128 B", 128}, {"1 KiB", 1 << 10}, {"64 KiB", 64 << 10}}

// stream sends b.N messages and waits until the consumer has them all.
func stream(b *testing.B, c contender, size int) {
	received, done := 0, make(chan struct{})
	send, flush := c.open(b, func(data []byte) {
		if len(data) != size {
			b.Errorf("a message of %d bytes, want %d", len(data), size)
		}
		if received++; received == b.N {
			close(done)
		}
	})
	data := bytes.Repeat([]byte{'x'}, size)
	b.SetBytes(int64(size))
	b.ResetTimer()
	for range b.N {
		if err := send(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		b.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		b.Fatalf("%s: messages of %d were lost", c.name, b.N)
	}
	b.StopTimer()
}

// measure returns the median nanoseconds of an operation of each of several benchmarks. Rounds are interleaved, so
// that what else the machine does meets them all.
func measure(benchmarks []func(*testing.B), rounds int) []float64 {
	costs := make([][]float64, len(benchmarks))
	for range rounds {
		for i, benchmark := range benchmarks {
			result := testing.Benchmark(benchmark)
			if result.N == 0 {
				fmt.Fprintf(os.Stderr, "benchmark %d failed\n", i)
				os.Exit(1)
			}
			costs[i] = append(costs[i], float64(result.T.Nanoseconds())/float64(result.N))
		}
	}
	medians := make([]float64, len(benchmarks))
	for i, c := range costs {
		slices.Sort(c)
		medians[i] = c[len(c)/2]
	}
	return medians
}

func main() {
	testing.Init()
	rounds := flag.Int("rounds", 5, "how often each contender runs")
	calls := flag.Bool("calls", false, "compare calls instead of streams")
	flag.Set("test.benchtime", "500ms")
	flag.Parse()
	if *rounds < 1 {
		fmt.Fprintf(os.Stderr, "-rounds %d: want 1 or more\n", *rounds)
		os.Exit(2)
	}

	fmt.Printf("%s, %s/%s, %d CPUs; medians of %d rounds.\n\n", runtime.Version(), runtime.GOOS,
		runtime.GOARCH, runtime.NumCPU(), *rounds)
	if *calls {
		compareCalls(*rounds)
		return
	}
	fmt.Println("| message | contender | ns/message | MB/s | time, udsipc = 1 |")
	fmt.Println("|---|---|--:|--:|--:|")
	for _, size := range sizes {
		var benchmarks []func(*testing.B)
		for _, c := range contenders {
			benchmarks = append(benchmarks, func(b *testing.B) { stream(b, c, size.bytes) })
		}
		medians := measure(benchmarks, *rounds)
		for i, c := range contenders {
			ns := medians[i]
			fmt.Printf("| %s | %s | %.0f | %.0f | %.1f |\n", size.name, c.name, ns, float64(size.bytes)/ns*1000, ns/medians[0])
		}
	}
}

// compareCalls prints what a call costs, from one goroutine and from 64.
func compareCalls(rounds int) {
	fmt.Println("| request | callers | contender | ns/call | time, udsipc = 1 |")
	fmt.Println("|---|--:|---|--:|--:|")
	for _, size := range sizes[:2] {
		for _, goroutines := range []int{1, 64} {
			var names []string
			var benchmarks []func(*testing.B)
			for _, c := range callers {
				if c.many || goroutines == 1 {
					names = append(names, c.name)
					benchmarks = append(benchmarks, func(b *testing.B) { atOnce(b, c, size.bytes, goroutines) })
				}
			}
			medians := measure(benchmarks, rounds)
			for i, ns := range medians {
				fmt.Printf("| %s | %d | %s | %.0f | %.2f |\n", size.name, goroutines, names[i], ns, ns/medians[0])
			}
		}
	}
}

// socketPath returns a path for a socket that is short enough on every system.
func socketPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "s")
}
