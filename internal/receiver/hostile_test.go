// SPDX-License-Identifier: Apache-2.0

//go:build linux

package receiver_test

// Clients that mean harm, as processes of their own, while an honest writer sends:
//
//	go test -run TestHostileClients -hostile.time 1m -v .

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

var hostileTime = flag.Duration("hostile.time", 100*time.Millisecond,
	"how long each kind of hostile client goes on at least")

// A hostileKind is what each of some processes does with each of its connections. It returns when
// there is nothing more to do, or an error when its connection was ended.
type hostileKind struct {
	name        string
	processes   int
	connections int // Of each process, one after the other if there is no hold.
	hold        bool
	attack      func(conn net.Conn) error
}

var hostileKinds = []hostileKind{
	{"opened and abandoned", 10, 1000, true, func(net.Conn) error { return nil }},
	{"announce 10 MiB and stall", 1, 1000, true, func(conn net.Conn) error {
		_, err := conn.Write(append(binary.AppendUvarint(nil, 10<<20), make([]byte, 100)...))
		return err
	}},
	{"send half of 1 MiB and stall", 1, 200, true, func(conn net.Conn) error {
		_, err := conn.Write(append(binary.AppendUvarint(nil, 1<<20), make([]byte, 1<<19)...))
		return err
	}},
	{"trickle", 1, 1000, true, func(conn net.Conn) error {
		conn.Write(binary.AppendUvarint(nil, 1000))
		for {
			if _, err := conn.Write([]byte{'x'}); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
	}},
	{"random bytes", 2, 100, false, func(conn net.Conn) error {
		b := make([]byte, 1+rand.IntN(10_000))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		_, err := conn.Write(b)
		return err
	}},
	{"frames cut anywhere", 2, 100, false, func(conn net.Conn) error {
		b := ipctest.Frames("hostile", string(make([]byte, rand.IntN(5000))))
		_, err := conn.Write(b[:rand.IntN(len(b))])
		return err
	}},
	{"prefixes of every length and overflow", 1, 100, false, func(conn net.Conn) error {
		b := make([]byte, 1+rand.IntN(13))
		for i := range b {
			b[i] = 0x80 | byte(rand.Uint32())
		}
		_, err := conn.Write(append(b, byte(rand.IntN(3))))
		return err
	}},
	{"sessions that never read", 1, 200, true, func(conn net.Conn) error {
		h := wire.Hello{Epoch: 1, FirstSeq: 1, HeartbeatTimeout: time.Millisecond}
		for i := range h.Writer {
			h.Writer[i] = byte(rand.Uint32())
		}
		conn.Write(h.Append(nil))
		for range 1000 {
			if _, err := conn.Write(ipctest.Frames("hostile")); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}},
	{"hellos of ever new writers", 2, 100, false, func(conn net.Conn) error {
		h := wire.Hello{Epoch: 1, FirstSeq: 1}
		for i := range h.Writer {
			h.Writer[i] = byte(rand.Uint32())
		}
		_, err := conn.Write(h.Append(nil))
		return err
	}},
	{"connect and close", 2, 1, false, func(net.Conn) error { return nil }},
}

func init() {
	ipctest.Roles["hostile"] = func() error {
		kind, err := strconv.Atoi(os.Getenv("KIND"))
		if err != nil {
			return err
		}
		k := hostileKinds[kind]
		deadline, err := time.ParseDuration(os.Getenv("TIME"))
		if err != nil {
			return err
		}
		fmt.Println("ready")
		n := 0
		for began := time.Now(); time.Since(began) < deadline; {
			n += attack(k)
			if k.hold {
				time.Sleep(time.Until(began.Add(deadline)))
			}
		}
		fmt.Println(n)
		return nil
	}
}

// attack opens a process's share of connections and returns how many those were.
func attack(k hostileKind) (n int) {
	for range k.connections {
		conn, err := net.DialTimeout("unix", os.Getenv("SOCKET"), time.Second)
		if err != nil {
			return n // The backlog is full.
		}
		n++
		if k.hold {
			go k.attack(conn) // Ends with the process; so does the connection.
			continue
		}
		_ = k.attack(conn) // The reader may be faster.
		conn.Close()
	}
	return n
}

// victim is a reader with an honest writer, and what became of the honest messages.
type victim struct {
	reader *udsipc.Reader
	writer *udsipc.Writer
	mu     sync.Mutex
	next   uint64
	took   []time.Duration
	bad    error
}

func startVictim(tb testing.TB, path string) *victim {
	v := &victim{}
	v.reader = ipctest.StartReader(tb, func(data []byte) error {
		if len(data) != 1000 || string(data[16:22]) != "honest" {
			return nil // A hostile one that happens to be a message.
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if n := binary.BigEndian.Uint64(data); n != v.next {
			v.bad = errors.Join(v.bad, fmt.Errorf("honest message %d came, want %d", n, v.next))
		}
		v.next++
		v.took = append(v.took, time.Duration(uint64(time.Now().UnixNano())-binary.BigEndian.Uint64(data[8:])))
		return nil
	}, path)
	v.writer = ipctest.StartWriter(tb, path, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
	return v
}

// send sends honest messages until told to stop, one every 100 µs or so, and returns how many.
func (v *victim) send(tb testing.TB, n uint64, stop <-chan struct{}) uint64 {
	data := make([]byte, 1000)
	copy(data[16:], "honest")
	for ; ; n++ {
		select {
		case <-stop:
			return n
		case <-time.After(100 * time.Microsecond):
		}
		binary.BigEndian.PutUint64(data, n)
		binary.BigEndian.PutUint64(data[8:], uint64(time.Now().UnixNano()))
		if err := v.writer.WriteMessage(data); err != nil {
			tb.Error(err)
			return n
		}
	}
}

// p99 returns the 99th percentile of the delivery times since it was last asked.
func (v *victim) p99() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	took := v.took
	v.took = nil
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// usage is what this process uses.
type usage struct {
	heap, goroutines, descriptors int
}

func used() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{heap: int(m.HeapInuse + m.StackInuse), goroutines: runtime.NumGoroutine()}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.descriptors = len(entries)
	}
	return u
}

func TestHostileClients(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	path := ipctest.SocketPath(t)
	v := startVictim(t, path)
	sent := uint64(0)
	// honest sends while something goes on, and returns the 99th percentile of the delivery times.
	honest := func(meanwhile func()) time.Duration {
		stop := make(chan struct{})
		done := make(chan uint64)
		go func() { done <- v.send(t, sent, stop) }()
		meanwhile()
		close(stop)
		sent = <-done
		if err := v.writer.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		return v.p99()
	}
	quiet := honest(func() { time.Sleep(*hostileTime) })
	t.Logf("%-40s %8s %10s %10s %6s %12s", "kind", "conns", "memory", "goroutines", "fds", "p99")
	t.Logf("%-40s %8d %10s %10s %6s %12v", "none", 1, "", "", "", quiet)
	for i, k := range hostileKinds {
		runtime.GC()
		before := used()
		peak, count := before, 0
		p99 := honest(func() { peak, count = runHostile(t, path, i, k, before) })
		t.Logf("%-40s %8d %7d kB %10d %6d %12v", k.name, count, (peak.heap-before.heap)>>10,
			peak.goroutines-before.goroutines, peak.descriptors-before.descriptors, p99)
		// Twice as many connections as are allowed: those that are being refused count as well.
		if limit := 2*1024 + 64; peak.goroutines-before.goroutines > 2*limit || peak.descriptors-before.descriptors > limit {
			t.Errorf("%s: %+v before, %+v at the peak", k.name, before, peak)
		}
		// The bound, 16 KiB for each connection, and as much garbage, which the collector allows.
		if limit := 2 * (64<<20 + 1024*16<<10); peak.heap-before.heap > limit {
			t.Errorf("%s: %d bytes more than before, want less than %d", k.name, peak.heap-before.heap, limit)
		}
		ipctest.Until(t, "they are gone", func() bool { return v.reader.Metrics().Connections <= 1 })
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bad != nil || v.next != sent {
		t.Errorf("%d honest messages came, %d were sent: %v", v.next, sent, v.bad)
	}
	if m := v.writer.Metrics(); m.Retransmitted > 0 || m.LostConnections > 0 {
		t.Errorf("the honest writer: %+v", m)
	}
}

// runHostile runs the processes of one kind to their end and returns the most that this process used
// meanwhile, and how many connections they made.
func runHostile(t *testing.T, path string, index int, k hostileKind, before usage) (peak usage, count int) {
	t.Helper()
	peak = before
	var outputs []*bufio.Scanner
	var wait []func() error
	for range k.processes {
		cmd := ipctest.Process(t, "hostile", "SOCKET="+path, fmt.Sprint("KIND=", index), "TIME="+hostileTime.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, bufio.NewScanner(out))
		wait = append(wait, cmd.Wait)
	}
	ended := make(chan int)
	go func() {
		n := 0
		for i, out := range outputs {
			for out.Scan() {
				if made, err := strconv.Atoi(out.Text()); err == nil {
					n += made
				}
			}
			if err := wait[i](); err != nil {
				t.Error(err)
			}
		}
		ended <- n
	}()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case count = <-ended:
			return peak, count
		case <-ticker.C:
			now := used()
			peak.heap, peak.goroutines, peak.descriptors = max(peak.heap, now.heap),
				max(peak.goroutines, now.goroutines), max(peak.descriptors, now.descriptors)
		}
	}
}
