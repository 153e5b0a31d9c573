// SPDX-License-Identifier: Apache-2.0

// Benchmarks compares udsipc with other systems that send messages between processes of one
// machine. Both ends lie in this process; the command "between" has them in two. It prints a
// Markdown table of medians, taken in one run, round by round:
//
//	go run .
//	go run . -rounds 9 -test.benchtime 2s
//	go run . -quick
//	go run . -calls
//
// Every contender sends each message from one producer to one consumer over a real socket. The
// clock stops when the consumer has counted the last message. "go test -bench ." measures the same.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// streamers are the contenders of this comparison, in its order.
var streamers = []string{
	"udsipc", "one system call a message", "Unix datagrams", "gRPC client streaming", "NATS core, loopback",
}

var sizes = []struct {
	name  string
	bytes int
}{{"128 B", 128}, {"1 KiB", 1 << 10}, {"64 KiB", 64 << 10}}

// open connects both ends of the contender of that name until tb is over.
func open(tb testing.TB, name string, size int, receive func(data []byte)) contender.Sender {
	tb.Helper()
	c, ok := contender.Named(name)
	if !ok {
		tb.Fatalf("no contender %q", name)
	}
	end := contender.End{Dir: tb.TempDir(), Size: size, Fail: func(err error) { tb.Errorf("%s: %v", name, err) }}
	receiver, err := c.Listen(end, receive)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeEnd(tb, receiver) })
	sender, err := c.Dial(end)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeEnd(tb, sender) })
	return sender
}

func closeEnd(tb testing.TB, end io.Closer) {
	if err := end.Close(); err != nil {
		tb.Error(err)
	}
}

// stream sends b.N messages and waits until the receiver has them all.
func stream(b *testing.B, name string, size int) {
	received, done := 0, make(chan struct{})
	sender := open(b, name, size, func(data []byte) {
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
		if err := sender.Send(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := sender.Flush(); err != nil {
		b.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		b.Fatalf("%s: messages of %d were lost", name, b.N)
	}
	b.StopTimer()
}

// measure returns the median nanoseconds of an operation of each of several benchmarks. Rounds are
// interleaved, so that what else the machine does meets them all.
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
	quick := flag.Bool("quick", false, "take one short round, to see that everything runs")
	flag.Set("test.benchtime", "500ms")
	flag.Parse()
	if *quick {
		*rounds = 1
		flag.Set("test.benchtime", "50ms")
	}
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
		for _, name := range streamers {
			benchmarks = append(benchmarks, func(b *testing.B) { stream(b, name, size.bytes) })
		}
		medians := measure(benchmarks, *rounds)
		for i, name := range streamers {
			ns := medians[i]
			fmt.Printf("| %s | %s | %.0f | %.0f | %.1f |\n",
				size.name, name, ns, float64(size.bytes)/ns*1000, ns/medians[0])
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
