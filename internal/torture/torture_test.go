// SPDX-License-Identifier: Apache-2.0

//go:build unix

package torture_test

// Acknowledged delivery between real processes: writers at full speed, a reader that is killed and
// comes back, and connections that are shut from outside.
//
//	go test -run TestTorture -torture.time 1h -timeout 0 .

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var tortureTime = flag.Duration("torture.time", 0, "how long TestTorture lasts; 0 for 20 kills and 200 cuts")

const (
	tortureWriters = 4
	tortureQueue   = 2000 // Messages: the window, so the bound of what a kill may repeat.
	tortureRecord  = 16 + 8 + 8 + 1
	tortureKills   = 20
	tortureCuts    = 200
)

func init() {
	ipctest.Roles["torture reader"] = tortureReader
	ipctest.Roles["torture writer"] = tortureWriter
}

// tortureMessage is a writer's number, the message's own, and a checksum over everything.
func tortureMessage(writer byte, n uint64, size int) []byte {
	data := make([]byte, 13+size)
	data[4] = writer
	binary.BigEndian.PutUint64(data[5:], n)
	for i := range data[13:] {
		data[13+i] = byte(n + uint64(i))
	}
	binary.BigEndian.PutUint32(data, crc32.ChecksumIEEE(data[4:]))
	return data
}

// tortureSize is the size of a message: a few are written from their producer's memory.
func tortureSize() int {
	if rand.IntN(50) == 0 {
		return rand.IntN(800 << 10)
	}
	return rand.IntN(4000)
}

// tortureReader writes what it handles to a file that survives it, before it says that it has.
func tortureReader() error {
	file, err := os.OpenFile(os.Getenv("RECORDS"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	handler := func(_ context.Context, d *udsipc.Delivery) error {
		if len(d.Data) < 13 || crc32.ChecksumIEEE(d.Data[4:]) != binary.BigEndian.Uint32(d.Data) {
			return fmt.Errorf("message %d of writer %v is damaged", d.Seq, d.Writer)
		}
		record := append(make([]byte, 0, tortureRecord), d.Writer[:]...)
		record = binary.BigEndian.AppendUint64(record, d.Seq)
		record = binary.BigEndian.AppendUint64(record, binary.BigEndian.Uint64(d.Data[5:]))
		if record = append(record, 0); d.Redelivered {
			record[tortureRecord-1] = 1
		}
		mu.Lock()
		defer mu.Unlock()
		_, err := file.Write(record)
		return err
	}
	l := &tortureListener{}
	path := os.Getenv("SOCKET")
	_ = os.Remove(path) // Left by one that was killed.
	if l.Listener, err = net.Listen("unix", path); err != nil {
		return err
	}
	l.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	r, err := udsipc.NewDeliveryReader(handler, path, udsipc.WithListener(l),
		udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
			fmt.Println("dead letter:", err)
		}))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	tortureCommands(map[string]func(){"cut": l.cut})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.Stop(ctx)
}

// tortureCommands obeys standard input until that says stop, or ends.
func tortureCommands(commands map[string]func()) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "stop" {
		if command := commands[lines.Text()]; command != nil {
			command()
		}
	}
}

// tortureListener can shut one of the connections that it has accepted.
type tortureListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *tortureListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns[max(0, len(l.conns)-tortureWriters+1):], conn)
		l.mu.Unlock()
	}
	return conn, err
}

func (l *tortureListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) > 0 {
		tortureCut(l.conns[rand.IntN(len(l.conns))])
	}
}

// tortureCut shuts a connection behind the back of whoever uses it.
func tortureCut(conn net.Conn) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	how := []int{syscall.SHUT_RD, syscall.SHUT_WR, syscall.SHUT_RDWR, -1}[rand.IntN(4)]
	if how < 0 {
		_ = conn.Close() // Of one that is closed already nothing comes.
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), how) })
}

// tortureWriter writes as fast as it can until it is told to stop, and says how much that was.
func tortureWriter() error {
	number, err := strconv.Atoi(os.Getenv("WRITER"))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var last net.Conn
	w, err := udsipc.NewWriter(os.Getenv("SOCKET"), udsipc.WithAcknowledgements(),
		udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithMaxBufferedWrites(tortureQueue), udsipc.WithMaxBackoff(20*time.Millisecond),
		udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", os.Getenv("SOCKET"))
			if err == nil {
				mu.Lock()
				last = conn
				mu.Unlock()
			}
			return conn, err
		}))
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	written := make(chan uint64, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		var n uint64
		defer func() { written <- n }()
		for w.WriteMessageContext(ctx, tortureMessage(byte(number), n+1, tortureSize())) == nil {
			n++
		}
	}()
	tortureCommands(map[string]func(){"cut": func() {
		mu.Lock()
		defer mu.Unlock()
		if last != nil {
			tortureCut(last)
		}
	}})
	cancel()
	n := <-written
	patience, done := context.WithTimeout(context.Background(), 60*time.Second)
	defer done()
	if err := w.Stop(patience); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(tortureResult{Written: n, Metrics: w.Metrics()})
}

// A tortureResult is the last word of a writer.
type tortureResult struct {
	Written uint64
	Metrics udsipc.WriterMetrics
}

// A tortured is a process of the test.
type tortured struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Scanner
}

func startTortured(tb testing.TB, role string, environment ...string) *tortured {
	tb.Helper()
	p := &tortured{cmd: ipctest.Process(tb, role, environment...)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.output = bufio.NewScanner(output)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill() // One that has ended is none the worse.
		_ = p.cmd.Wait()
	})
	return p
}

func (p *tortured) tell(line string) { _, _ = io.WriteString(p.input, line+"\n") } // It may be gone.

func (p *tortured) says(tb testing.TB) string {
	tb.Helper()
	if !p.output.Scan() {
		tb.Fatalf("a process ended without a word: %v", p.output.Err())
	}
	return p.output.Text()
}

// A torture is the parent's view.
type torture struct {
	tb      testing.TB
	dir     string
	reader  *tortured
	life    int
	writers []*tortured
	highest map[udsipc.WriterID]uint64 // Of each writer, the last message that was handled.

	messages, kills, cuts, stops, repeats, mostRepeats uint64
}

func (s *torture) records() string {
	return filepath.Join(s.dir, fmt.Sprint("records", s.life))
}

func (s *torture) startReader() {
	s.tb.Helper()
	s.life++
	s.reader = startTortured(s.tb, "torture reader", "SOCKET="+filepath.Join(s.dir, "s"), "RECORDS="+s.records())
	if said := s.reader.says(s.tb); said != "ready" {
		s.tb.Fatalf("the reader says %q", said)
	}
}

// endReader ends the reader in one of two ways and checks what it did.
func (s *torture) endReader(kill bool) {
	s.tb.Helper()
	if kill {
		s.kills++
		_ = s.reader.cmd.Process.Kill()
		_ = s.reader.cmd.Wait()
	} else {
		s.stops++
		s.reader.tell("stop")
		if s.reader.output.Scan() {
			s.tb.Errorf("the reader says %q", s.reader.output.Text())
		}
		if err := s.reader.cmd.Wait(); err != nil {
			s.tb.Errorf("the reader: %v", err)
		}
	}
	s.check()
}

// check reads what one reader handled. A writer's messages come one after the other; the first ones may
// have been handled before, because the reader before was killed, or its last word was lost with a
// connection that was cut; then they are marked.
func (s *torture) check() {
	s.tb.Helper()
	text, err := os.ReadFile(s.records())
	if err != nil {
		s.tb.Fatal(err)
	}
	_ = os.Remove(s.records())
	last := map[udsipc.WriterID]uint64{}
	repeats := map[udsipc.WriterID]uint64{}
	for ; len(text) >= tortureRecord; text = text[tortureRecord:] {
		id := udsipc.WriterID(text)
		seq, n, marked := binary.BigEndian.Uint64(text[16:]), binary.BigEndian.Uint64(text[24:]), text[32] == 1
		before, seen := last[id]
		switch {
		case seq != n:
			s.tb.Errorf("life %d: message %d of %v has the number %d", s.life, n, id, seq)
		case seen && n != before+1:
			s.tb.Errorf("life %d: message %d of %v came after %d", s.life, n, id, before)
		case !seen && n > s.highest[id]+1:
			s.tb.Errorf(
				"life %d: the first message of %v is %d, the last before was %d: lost in between",
				s.life, id, n, s.highest[id])
		case n <= s.highest[id] && !marked:
			s.tb.Errorf("life %d: message %d of %v was handled again and is not marked", s.life, n, id)
		}
		last[id] = n
		s.messages++
		if n <= s.highest[id] {
			repeats[id]++
		}
		if s.tb.Failed() {
			break
		}
	}
	for id, n := range last {
		s.highest[id] = max(s.highest[id], n)
		s.repeats += repeats[id]
		s.mostRepeats = max(s.mostRepeats, repeats[id])
	}
	if s.mostRepeats > tortureQueue {
		s.tb.Errorf("life %d: %d messages of one writer were handled again, the window is %d",
			s.life, s.mostRepeats, tortureQueue)
	}
}

// cut shuts a connection, from either side.
func (s *torture) cut() {
	s.cuts++
	if i := rand.IntN(tortureWriters + 1); i < tortureWriters {
		s.writers[i].tell("cut")
	} else {
		s.reader.tell("cut")
	}
}

// finish stops the writers and compares what they say with what was handled.
func (s *torture) finish() {
	s.tb.Helper()
	written := uint64(0)
	for _, w := range s.writers {
		w.tell("stop")
	}
	for i, w := range s.writers {
		var result tortureResult
		if err := json.Unmarshal([]byte(w.says(s.tb)), &result); err != nil {
			s.tb.Fatal(err)
		}
		if err := w.cmd.Wait(); err != nil {
			s.tb.Errorf("writer %d: %v", i, err)
		}
		if m := result.Metrics; m.Acknowledged != result.Written || m.Undelivered+m.PossiblyLost+m.Dropped > 0 {
			s.tb.Errorf("writer %d wrote %d messages: %+v", i, result.Written, m)
		}
		written += result.Written
	}
	s.endReader(false)
	handled := uint64(0)
	for _, n := range s.highest {
		handled += n
	}
	if handled != written || s.messages != written+s.repeats {
		s.tb.Errorf("%d messages were written, %d handled, %d of them again", written, s.messages, s.repeats)
	}
	s.tb.Logf("%d messages, %d kills, %d cuts, %d graceful restarts: 0 lost, %d handled again, %d "+
		"of one writer at most (the window is %d)",
		written, s.kills, s.cuts, s.stops-1, s.repeats, s.mostRepeats, tortureQueue)
}

func TestTorture(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	kills, cuts := uint64(tortureKills), uint64(tortureCuts)
	if ipctest.RaceEnabled {
		kills, cuts = kills/2, cuts/2
	}
	s := &torture{tb: t, dir: t.TempDir(), highest: map[udsipc.WriterID]uint64{}}
	s.startReader()
	for i := range tortureWriters {
		s.writers = append(s.writers, startTortured(t, "torture writer",
			"SOCKET="+filepath.Join(s.dir, "s"), fmt.Sprint("WRITER=", i)))
	}
	perKill := int(cuts / kills)
	for deadline := time.Now().Add(*tortureTime); !t.Failed() && (s.kills < kills || time.Now().Before(deadline)); {
		for range perKill {
			time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond) // Faults come at any time.
			s.cut()
		}
		s.endReader(rand.IntN(10) > 0)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		s.startReader()
	}
	s.finish()
	if s.messages == 0 || strings.TrimSpace(s.dir) == "" {
		t.Error("nothing was handled")
	}
}
