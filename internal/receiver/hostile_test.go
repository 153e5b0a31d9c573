// SPDX-License-Identifier: Apache-2.0

//go:build linux

package receiver_test

// Clients that mean harm, as processes of their own, while an honest writer sends:
//
//	go test -run TestHostileClients -hostile.time 1m -v .

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
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

// withFewDescriptors returns a role that runs in a directory of its own and has 40 descriptors at most.
func withFewDescriptors(run func(dir string) error) func() error {
	return func() error {
		dir, err := os.MkdirTemp("", "udsipc")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		limit := syscall.Rlimit{Cur: 40, Max: 40}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		return run(dir)
	}
}

// TestReader_OutOfDescriptors_Recovers: a reader that cannot accept waits, and goes on within a second of the moment at
// which it can again, without a busy loop.
func TestReader_OutOfDescriptors_Recovers(t *testing.T) {
	service := ipctest.StartService(t, ipctest.Process(t, "few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["few descriptors"] = withFewDescriptors(func(dir string) error {
		got := make(chan string, 100)
		r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil },
			dir+"/s", udsipc.WithMaxAcceptErrors(0))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		const rounds = 10
		soonest := time.Hour
		for round := range rounds {
			took, err := exhaust(r, dir+"/s", got)
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			soonest = min(soonest, took)
		}
		if soonest > time.Second { // One that is late may be the machine's fault.
			return fmt.Errorf("in none of %d rounds it went on within a second, but after %v at the soonest", rounds, soonest)
		}
		if m := r.Metrics(); m.AcceptErrors == 0 || m.AcceptErrors > 100*rounds {
			return fmt.Errorf("%d errors of accept in %d rounds", m.AcceptErrors, rounds)
		}
		fmt.Println("done")
		return nil
	})
}

// TestReader_StopOutOfDescriptors_ServesBacklog: who waits in the backlog is served, with the
// descriptors of those that end.
func TestReader_StopOutOfDescriptors_ServesBacklog(t *testing.T) {
	service := ipctest.StartService(t, ipctest.Process(t, "stop with few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["stop with few descriptors"] = withFewDescriptors(func(dir string) error {
		path := dir + "/s"
		var got atomic.Int64
		r, err := udsipc.NewReader(func([]byte) error { got.Add(1); return nil }, path)
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		var conns []net.Conn
		began := time.Now()
		for err == nil && time.Since(began) < 5*time.Second { // Until there is no descriptor left, at this end or the other.
			var conn net.Conn
			if conn, err = net.Dial("unix", path); err == nil {
				conns = append(conns, conn)
				_, err = conn.Write(ipctest.Frames("x"))
			}
			for len(conns) == 1 && got.Load() == 0 && time.Since(began) < 5*time.Second {
				time.Sleep(time.Millisecond) // One at least gives its descriptor back.
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			return err
		}
		if got.Load() != int64(len(conns)) {
			return fmt.Errorf("%d of %d messages came: %+v", got.Load(), len(conns), r.Metrics())
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the socket is still there: %w", err)
		}
		fmt.Println("done")
		return nil
	})
}

// TestReader_StartOutOfDescriptors_LeavesNothing, with none left to with enough: a Start that fails
// says why, leaves nothing, and may be repeated.
func TestReader_StartOutOfDescriptors_LeavesNothing(t *testing.T) {
	t.Parallel()
	service := ipctest.StartService(t, ipctest.Process(t, "start with few descriptors"))
	service.Says("done")
	service.Ends()
}

func init() {
	ipctest.Roles["start with few descriptors"] = withFewDescriptors(func(dir string) error {
		for left := range 12 {
			if err := startWith(left, filepath.Join(dir, "s")); err != nil {
				return fmt.Errorf("with %d descriptors: %w", left, err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) > 0 {
				return fmt.Errorf("with %d descriptors: %v are left, %w", left, entries, err)
			}
		}
		fmt.Println("done")
		return nil
	})
}

// startWith starts a Reader with so many descriptors, then with enough of them, and stops it.
func startWith(left int, path string) error {
	r, err := udsipc.NewReader(ipctest.Ignore, path)
	if err != nil {
		return err
	}
	var files []*os.File
	for err == nil {
		var file *os.File
		if file, err = os.Open(os.DevNull); err == nil {
			files = append(files, file)
		}
	}
	for _, file := range files[:left] {
		file.Close()
	}
	started := r.Start()
	_, found := os.Lstat(path)
	for _, file := range files[left:] {
		file.Close()
	}
	switch {
	case started == nil:
	case !errors.Is(started, syscall.EMFILE) || errors.Is(started, udsipc.ErrSocketInUse):
		return fmt.Errorf("Start: %w, want %w", started, syscall.EMFILE)
	case !errors.Is(found, fs.ErrNotExist):
		return fmt.Errorf("the socket was left: %w", found)
	}
	if err := r.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.Stop(ctx)
}

// exhaust takes all descriptors but one, with which a client connects, so that the reader has none to
// accept it with; and gives them back. The reader has ended the connection of the round before it by then.
func exhaust(r *udsipc.Reader, path string, got <-chan string) (took time.Duration, err error) {
	if err := untilAlone(r); err != nil {
		return 0, err
	}
	before := r.Metrics().AcceptErrors
	var files []*os.File
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, file)
	}
	if len(files) < 5 {
		return 0, fmt.Errorf("only %d descriptors were left", len(files))
	}
	files[0].Close()
	files = files[1:]
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(ipctest.Frames("waits in the backlog")); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(10 * time.Second); r.Metrics().AcceptErrors == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, errors.New("accept did not fail")
		}
	}
	for _, file := range files {
		file.Close()
	}
	files = nil
	began := time.Now()
	select {
	case <-got:
		return time.Since(began), nil
	case <-time.After(10 * time.Second):
		return 0, errors.New("nothing came within 10 seconds")
	}
}

// untilAlone waits until a reader has no connection left, and so has given back their descriptors.
func untilAlone(r *udsipc.Reader) error {
	for deadline := time.Now().Add(10 * time.Second); r.Metrics().Connections > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("a connection that its client has closed is still open")
		}
	}
	return nil
}
