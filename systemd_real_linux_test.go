// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func init() {
	roles["collector"] = collectNumbers
	roles["readers"] = collectByName
}

// collectByName is a service with two Readers, "a" and "b", that says in the file LOG what each gets, and
// before that what nobody took.
func collectByName() error {
	log, err := os.OpenFile(os.Getenv("LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	begun := make(chan struct{})
	var readers []*udsipc.Reader
	for _, name := range []string{"a", "b"} {
		r, err := udsipc.NewReader(func(data []byte) error {
			<-begun
			_, err := fmt.Fprintf(log, "%-*s", recordSize, name+" "+string(data))
			return err
		}, os.Getenv("ADDRESS")+name, udsipc.WithSystemdName(name), udsipc.WithoutReady())
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		readers = append(readers, r)
	}
	left, err := udsipc.PassedDescriptors()
	if err != nil {
		return err
	}
	for _, passed := range left {
		fmt.Fprintf(log, "%-*s", recordSize, "left: "+passed.Name)
	}
	close(begun)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	if err := udsipc.Notify("READY=1", "STATUS=two sockets"); err != nil {
		return err
	}
	<-signals
	for _, r := range readers {
		if err := r.Stop(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// A record is what the service writes for each message: 9 bytes, the number and whether it may be a repeat.
const recordSize = 9

// collectNumbers is a service. It appends a record to the file LOG for each number that it gets, before
// its handler returns. Other messages tell it what to do. It stops at SIGTERM, hands over at SIGUSR2, and
// reloads at SIGHUP.
func collectNumbers() error {
	log, err := os.OpenFile(os.Getenv("LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	var opts []udsipc.ReaderOption
	if name := os.Getenv("NAME"); name != "" {
		opts = append(opts, udsipc.WithSystemdName(name))
	}
	if os.Getenv("STUCK_AFTER") != "" {
		limit, err := time.ParseDuration(os.Getenv("STUCK_AFTER"))
		if err != nil {
			return err
		}
		opts = append(opts, udsipc.WithHungTimeout(limit))
	}
	opts = append(opts, udsipc.WithStatusInterval(100*time.Millisecond), udsipc.WithReaderErrorCallback(func(err error, _ string) {
		fmt.Fprintln(os.Stderr, "collector:", err)
	}))
	r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		switch text := string(d.Data); {
		case text == "stuck":
			select {}
		case text == "slow":
			time.Sleep(50 * time.Millisecond)
		case text == "hello":
		case len(d.Data) >= 8:
			record := append(make([]byte, 0, recordSize), d.Data[:8]...)
			if record = append(record, 0); d.Redelivered {
				record[8] = 1
			}
			_, err := log.Write(record)
			return err
		}
		_, err := log.Write([]byte(fmt.Sprintf("%-9.9s", d.Data)))
		return err
	}, os.Getenv("ADDRESS"), opts...)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGHUP)
	if err := r.Start(); err != nil {
		return err
	}
	if os.Getenv("CLOSE") != "" {
		left, err := udsipc.PassedDescriptors()
		if err != nil {
			return err
		}
		for _, passed := range left {
			fmt.Fprintf(log, "%-9.9s", strings.TrimPrefix(passed.Name, "udsipc-"))
			if err := errors.Join(passed.Close(), passed.Close()); err != nil { // The second does nothing.
				return err
			}
		}
	}
	for {
		select {
		case <-r.Done():
			return r.Err()
		case what := <-signals:
			switch what {
			case syscall.SIGHUP:
				if err := udsipc.NotifyReloading(); err != nil {
					return err
				}
				time.Sleep(200 * time.Millisecond) // So that it can be seen.
				if err := udsipc.Notify("READY=1"); err != nil {
					return err
				}
			case syscall.SIGUSR2:
				ctx := context.Background()
				if patience, err := time.ParseDuration(os.Getenv("PATIENCE")); err == nil {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, patience)
					defer cancel()
				}
				return r.HandOver(ctx)
			default:
				return r.Stop(context.Background())
			}
		}
	}
}

// A servedLog is what a service has written.
type servedLog struct{ path string }

func newServedLog(tb testing.TB) servedLog {
	tb.Helper()
	return servedLog{filepath.Join(openFolder(tb), "log")}
}

// records returns what is in it.
func (l servedLog) records(tb testing.TB) []string {
	tb.Helper()
	data, err := os.ReadFile(l.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	var list []string
	for ; len(data) >= recordSize; data = data[recordSize:] {
		list = append(list, string(data[:recordSize]))
	}
	return list
}

// want waits for the first records that are no numbers.
func (l servedLog) want(tb testing.TB, texts ...string) {
	tb.Helper()
	var got []string
	until(tb, "the service has got "+strings.Join(texts, ", "), func() bool {
		got = got[:0]
		for _, record := range l.records(tb) {
			got = append(got, strings.TrimSpace(record))
		}
		return len(got) >= len(texts)
	})
	if strings.Join(got, ",") != strings.Join(texts, ",") {
		tb.Errorf("the service has got %q, want %q", got, texts)
	}
}

// numbers checks that all numbers below count were handled, in order and once, but for repeats that are
// marked, which it counts.
func (l servedLog) numbers(tb testing.TB, count uint64) (repeats int) {
	tb.Helper()
	next := uint64(0)
	for i, record := range l.records(tb) {
		got := binary.BigEndian.Uint64([]byte(record))
		switch {
		case got == next:
			next++
		case got < next && record[8] == 1:
			repeats++
		default:
			tb.Fatalf("record %d is number %d (repeat: %d), want %d", i, got, record[8], next)
		}
	}
	if next != count {
		tb.Errorf("%d numbers were handled, %d were sent", next, count)
	}
	return repeats
}

// A torrent is a Writer at full speed.
type torrent struct {
	w      *udsipc.Writer
	errs   *reported
	cancel context.CancelFunc
	count  chan uint64
}

func startTorrent(tb testing.TB, address string, opts ...udsipc.WriterOption) *torrent {
	tb.Helper()
	s := &torrent{errs: collect(), count: make(chan uint64, 1)}
	opts = append(opts, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBackoff(20*time.Millisecond),
		udsipc.WithWriterErrorCallback(s.errs.callback))
	s.w = startWriter(tb, address, opts...)
	ctx, cancel := context.WithCancel(tb.Context())
	s.cancel = cancel
	go func() { // Ends with ctx.
		var n uint64
		for ; s.w.WriteMessageContext(ctx, number(n, int(n%3000))) == nil; n++ {
		}
		s.count <- n
	}()
	return s
}

// end stops writing and returns how many messages were sent.
func (s *torrent) end(tb testing.TB) uint64 {
	tb.Helper()
	s.cancel()
	count := await(tb, "the end of writing", s.count)
	stop(tb, s.w)
	if m := s.w.Metrics(); m.Sent != count || m.PossiblyLost != 0 || m.Undelivered != 0 {
		tb.Errorf("sent %d of %d: %+v", m.Sent, count, m)
	}
	return count
}

// progress waits until the stream has got on by many messages, whatever the speed.
func (s *torrent) progress(tb testing.TB) {
	tb.Helper()
	before := s.w.Metrics().Sent
	until(tb, "the stream gets on", func() bool { return s.w.Metrics().Sent >= before+1000 })
}

const restarts = 10

func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	s := bootSystemd(t)
	t.Run("the first connection starts the service", func(t *testing.T) { firstConnection(t, s) })
	t.Run("restarts with a socket unit", func(t *testing.T) { restartsWithSocket(t, s) })
	t.Run("restarts with the descriptor store", func(t *testing.T) { restartsWithStore(t, s) })
	t.Run("restarts with the descriptor store, acknowledged", func(t *testing.T) { restartsWithStore(t, s, udsipc.WithAcknowledgements()) })
	t.Run("restarts without a descriptor store", func(t *testing.T) { restartsWithoutStore(t, s) })
	t.Run("a thousand connections", func(t *testing.T) { aThousandConnections(t, s) })
	t.Run("restarts under large messages", func(t *testing.T) { restartsUnderLargeMessages(t, s) })
	t.Run("a store that is too small", func(t *testing.T) { storeTooSmall(t, s) })
	t.Run("a writer that ends meanwhile", func(t *testing.T) { writerEndsMeanwhile(t, s) })
	t.Run("killed with acknowledgements", func(t *testing.T) { killedUnderSystemd(t, s) })
	t.Run("watchdog", func(t *testing.T) { watchdogKills(t, s) })
	t.Run("a long stop is extended", func(t *testing.T) { longStop(t, s) })
	t.Run("Accept=yes", func(t *testing.T) { acceptYes(t, s) })
	t.Run("sockets with names", func(t *testing.T) { socketsWithNames(t, s) })
	t.Run("a user outside the group", func(t *testing.T) { outsideTheGroup(t, s) })
	t.Run("beside each other", func(t *testing.T) { // These wait for time to pass.
		for name, test := range map[string]func(*testing.T, *bootedSystemd){
			"status":      statusIsShown,
			"the example": theExample,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, s)
			})
		}
	})
}

func firstConnection(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"first.socket":  {Socket: "ListenStream=" + path},
		"first.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "first.socket")
	if state := s.show(t, "first.service", "ActiveState"); state != "inactive" {
		t.Fatalf("the service is %s before anybody connects", state)
	}
	send(t, path, "hello")
	log.want(t, "hello")
	if state := s.show(t, "first.service", "ActiveState"); state != "active" {
		t.Errorf("the service is %s", state)
	}
	s.control(t, "stop", "first.service")
	if lstat(t, path) == nil {
		t.Error("the service took systemd's socket along")
	}
}

func restartsWithSocket(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"again.socket":  {Socket: "ListenStream=" + path},
		"again.service": {Service: "Type=notify\nStartLimitBurst=0\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "again.socket")
	stream := startTorrent(t, path)
	for range restarts {
		stream.progress(t)
		s.control(t, "restart", "again.service")
	}
	stream.progress(t)
	count := stream.end(t)
	s.control(t, "stop", "again.service")
	if repeats := log.numbers(t, count); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	t.Logf("%d messages, %d connections", count, stream.w.Metrics().Connections)
}

func restartsWithStore(t *testing.T, s *bootedSystemd, opts ...udsipc.WriterOption) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"store.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=16\nRestartKillSignal=SIGUSR2\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path),
		},
	})
	s.control(t, "start", "store.service")
	stream := startTorrent(t, path, opts...)
	idle := startWriter(t, path, opts...)
	if err := idle.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range restarts {
		stream.progress(t)
		s.control(t, "restart", "store.service")
	}
	stream.progress(t)
	count := stream.end(t)
	for name, w := range map[string]*udsipc.Writer{"full speed": stream.w, "idle": idle} {
		if m := w.Metrics(); m.Connections != 1 {
			t.Errorf("%s: %d connections were made, want one: %+v", name, m.Connections, m)
		}
	}
	stop(t, idle)
	s.control(t, "stop", "store.service")
	if lstat(t, path) != nil {
		t.Error("the socket is still there")
	}
	if repeats := log.numbers(t, count); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	t.Logf("%d messages", count)
}

// restartsWithoutStore: a service that hands over without FileDescriptorStoreMax= loses nothing by it, and says so.
func restartsWithoutStore(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"nostore.socket": {Socket: "ListenStream=" + path},
		"nostore.service": {
			Unit:    "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestartKillSignal=SIGUSR2\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path),
		},
	})
	s.control(t, "start", "nostore.socket")
	torrent := startTorrent(t, path)
	for range 3 {
		torrent.progress(t)
		s.control(t, "restart", "nostore.service")
	}
	torrent.progress(t)
	count := torrent.end(t)
	s.control(t, "stop", "nostore.service")
	if repeats := log.numbers(t, count); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	said, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(said), "raise FileDescriptorStoreMax=") {
		t.Error("nobody says why the connections were not handed over")
	}
}

func aThousandConnections(t *testing.T, s *bootedSystemd) {
	const connections = 1000
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"thousand.service": {Service: "Type=notify\nFileDescriptorStoreMax=1040\nLimitNOFILE=8192\nRestartKillSignal=SIGUSR2\n" +
			s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path, "NAME=thousand")},
	})
	s.control(t, "start", "thousand.service")
	var conns []net.Conn
	for range connections {
		conn := mustDial(t, path)
		mustWrite(t, conn, frames("hello"))
		conns = append(conns, conn)
	}
	until(t, "all are there", func() bool { return len(log.records(t)) == connections })
	s.control(t, "restart", "thousand.service")
	for _, conn := range conns {
		mustWrite(t, conn, frames("again"))
	}
	until(t, "all are still there", func() bool { return len(log.records(t)) == 2*connections })
}

// restartsUnderLargeMessages: streams of messages that together need more read memory than there is.
func restartsUnderLargeMessages(t *testing.T, s *bootedSystemd) {
	const streams, size = 8, 9 << 20 // More than the read memory.
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"large.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=40\nRestartKillSignal=SIGUSR2\nTimeoutStopSec=20\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path),
		},
	})
	s.control(t, "start", "large.service")
	f := startFlood(t, path, streams, size)
	for range 2 {
		before := f.sent.Load()
		until(t, "the streams get on", func() bool { return f.sent.Load() >= before+2*streams })
		s.control(t, "restart", "large.service")
	}
	before := f.sent.Load()
	until(t, "the streams get on", func() bool { return f.sent.Load() >= before+2*streams })
	if failed := f.failed.Load(); failed != 0 {
		t.Errorf("%d of %d connections were not handed over", failed, streams)
	}
	f.end()
	s.control(t, "stop", "large.service")
	if n, sent := len(log.records(t)), int(f.sent.Load()); n < sent || n > sent+streams {
		t.Errorf("%d messages were handled of %d", n, sent)
	}
}

// storeTooSmall: some connections are handed over, the others end as at a stop, and nothing of either is lost.
func storeTooSmall(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"small.service": {
			Unit:    "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=3\nRestartKillSignal=SIGUSR2\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path),
		},
	})
	s.control(t, "start", "small.service")
	torrent := startTorrent(t, path, udsipc.WithAcknowledgements())
	idle := startWriter(t, path, udsipc.WithAcknowledgements())
	if err := idle.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		torrent.progress(t)
		s.control(t, "restart", "small.service")
	}
	torrent.progress(t)
	count := torrent.end(t)
	stop(t, idle)
	s.control(t, "stop", "small.service")
	t.Logf("%d messages, %d repeats", count, log.numbers(t, count))
}

// writerEndsMeanwhile: what a writer sends and leaves while there is no process is not lost (FDPOLL=0).
func writerEndsMeanwhile(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"ends.service": {Service: "Type=notify\nFileDescriptorStoreMax=16\nRestartKillSignal=SIGUSR2\nExecStartPre=sleep 0.5\n" +
			s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "ends.service")
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello"))
	log.want(t, "hello")
	s.control(t, "restart", "--no-block", "ends.service")
	until(t, "no process is there", func() bool { return s.show(t, "ends.service", "SubState") == "start-pre" })
	mustWrite(t, conn, frames("last"))
	conn.Close()
	log.want(t, "hello", "last")
}

func killedUnderSystemd(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"killed.socket": {Socket: "ListenStream=" + path},
		"killed.service": {
			Unit:    "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestart=always\nRestartSec=10ms\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path),
		},
	})
	s.control(t, "start", "killed.socket")
	stream := startTorrent(t, path, udsipc.WithAcknowledgements())
	for range restarts {
		stream.progress(t)
		s.control(t, "kill", "--signal=KILL", "killed.service")
	}
	stream.progress(t)
	count := stream.end(t)
	s.control(t, "stop", "killed.service")
	t.Logf("%d messages, %d repeats", count, log.numbers(t, count))
	if restarts := s.show(t, "killed.service", "NRestarts"); restarts == "0" {
		t.Error("the service was not killed")
	}
}

func watchdogKills(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"stuck.socket": {Socket: "ListenStream=" + path},
		"stuck.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestart=always\nRestartSec=10ms\nWatchdogSec=400ms\nLimitCORE=0\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path, "STUCK_AFTER=200ms"),
		},
	})
	s.control(t, "start", "stuck.socket")
	send(t, path, "hello")
	log.want(t, "hello")
	pid := s.show(t, "stuck.service", "MainPID")
	time.Sleep(time.Second) // Longer than the watchdog waits: one that lives is left alone.
	if now := s.show(t, "stuck.service", "MainPID"); now != pid {
		t.Fatalf("process %s has followed process %s, which was not stuck", now, pid)
	}
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("stuck"))
	until(t, "the watchdog has ended the service, and systemd has started it again", func() bool {
		return s.show(t, "stuck.service", "NRestarts") == "1" && s.show(t, "stuck.service", "ActiveState") == "active"
	})
	send(t, path, "hello")
	log.want(t, "hello", "hello")
	output, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SIGABRT", "a handler has not returned for more than 200ms"} { // What the watchdog sends (WatchdogSignal=).
		if !strings.Contains(string(output), want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

func longStop(t *testing.T, s *bootedSystemd) {
	const messages = 60 // 50 ms each: three times what systemd would wait.
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"long.socket":  {Socket: "ListenStream=" + path},
		"long.service": {Service: "Type=notify\nTimeoutStopSec=1\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "long.socket")
	conn := mustDial(t, path)
	var want []string
	for range messages {
		mustWrite(t, conn, frames("slow"))
		want = append(want, "slow")
	}
	until(t, "the service is at work", func() bool { return len(log.records(t)) > 0 })
	began := time.Now()
	s.control(t, "stop", "long.service")
	log.want(t, want...)
	if result := s.show(t, "long.service", "Result"); result != "success" {
		t.Errorf("the result is %q after %v", result, time.Since(began))
	}
}

func statusIsShown(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	s.install(t, map[string]unit{
		"status.service": {Service: "Type=notify\nExecReload=kill -HUP $MAINPID\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "status.service")
	w := startWriter(t, path)
	mustWriteMessage(t, w, "hello")
	until(t, "the status names the connection", func() bool {
		return strings.Contains(s.control(t, "status", "status.service"), `Status: "1 connection, `)
	})
	for range 100 { // 50 ms each, and a socket that holds the rest.
		mustWriteMessage(t, w, "slow")
	}
	until(t, "the status has a rate", func() bool {
		output := s.show(t, "status.service", "StatusText")
		return strings.Contains(output, ", ") && !strings.Contains(output, " 0 messages/s")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.Stop(ctx) // They need not be handled.
	s.control(t, "reload", "--no-block", "status.service")
	until(t, "systemd knows that it reloads", func() bool { return s.show(t, "status.service", "SubState") == "reload" })
	until(t, "the service is ready again", func() bool {
		return s.show(t, "status.service", "ActiveState") == "active" && s.show(t, "status.service", "SubState") == "running"
	})
}

func acceptYes(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	tcp := tcpAddress(t)
	service := unit{Service: "Type=notify\nCollectMode=inactive-or-failed\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)}
	s.install(t, map[string]unit{
		"each.socket":      {Socket: "Accept=yes\nListenStream=" + path},
		"each@.service":    service,
		"eachtcp.socket":   {Socket: "Accept=yes\nListenStream=" + strings.TrimPrefix(tcp, "tcp://")},
		"eachtcp@.service": service,
	})
	s.control(t, "start", "each.socket", "eachtcp.socket")
	var writers []*udsipc.Writer
	for _, address := range []string{path, path, tcp} {
		w := startWriter(t, address)
		mustWriteMessage(t, w, "hello")
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	log.want(t, "hello", "hello", "hello")
	instances := func() int {
		return strings.Count(s.control(t, "list-units", "--no-legend", "--state=active", "each@*.service", "eachtcp@*.service"), "\n") + 1
	}
	if n := instances(); n != len(writers) {
		t.Errorf("%d instances of the service run, want %d", n, len(writers))
	}
	for _, w := range writers {
		mustWriteMessage(t, w, "hello")
		stop(t, w)
	}
	log.want(t, "hello", "hello", "hello", "hello", "hello", "hello")
	until(t, "each instance has ended with its connection", func() bool {
		return s.control(t, "list-units", "--no-legend", "--all", "each@*.service", "eachtcp@*.service") == ""
	})
}

func socketsWithNames(t *testing.T, s *bootedSystemd) {
	log, path := newServedLog(t), socketPath(t)
	tcp, abstract := tcpAddress(t), abstractName(t)
	service := "Type=notify\nSockets=named-a.socket named-b.socket named-c.socket\n" +
		s.runRole(t, "readers", "ADDRESS="+path, "LOG="+log.path)
	s.install(t, map[string]unit{
		"named-a.socket": {Socket: "FileDescriptorName=a\nService=named.service\nListenStream=" + path + "a"},
		"named-b.socket": {Socket: "FileDescriptorName=b\nService=named.service\nListenStream=" + abstract},
		"named-c.socket": {Socket: "FileDescriptorName=c\nService=named.service\nListenStream=" + strings.TrimPrefix(tcp, "tcp://")},
		"named.service":  {Service: service},
	})
	s.control(t, "start", "named-a.socket", "named-b.socket", "named-c.socket")
	send(t, path+"a", "1")
	log.want(t, "left: c", "a 1")
	send(t, abstract, "2")
	log.want(t, "left: c", "a 1", "b 2")
	s.control(t, "stop", "named.service")
	if result := s.show(t, "named.service", "Result"); result != "success" {
		t.Errorf("the result is %q", result)
	}
}

func outsideTheGroup(t *testing.T, s *bootedSystemd) {
	log, folder := newServedLog(t), openFolder(t)
	path := filepath.Join(folder, "s")
	group, err := user.LookupGroupId(strconv.Itoa(nobody)) // The one of asNobody.
	if err != nil {
		t.Skip(err)
	}
	s.install(t, map[string]unit{
		"group.socket":  {Socket: "ListenStream=" + path + "\nSocketMode=0660\nSocketGroup=root"},
		"group.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
		"other.socket":  {Socket: "ListenStream=" + path + "2\nSocketMode=0660\nSocketGroup=" + group.Name},
		"other.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.path)},
	})
	s.control(t, "start", "group.socket", "other.socket")
	for address, want := range map[string]string{path: "kept out", path + "2": "let in"} {
		_, output := asNobody(t, folder, "visitor", "SOCKET="+address)
		if !output.Scan() || output.Text() != want {
			t.Errorf("%s: %q, want %q", address, output.Text(), want)
		}
	}
}

// theExample installs the units of examples/systemd, with all that they take away from the programs, and restarts
// the collector under the agent.
func theExample(t *testing.T, s *bootedSystemd) {
	const folder = "/run/programs" // Where the units let programs see it.
	for name, source := range map[string]string{"collector": "./examples/systemd", "agent": "./examples/systemd/agent"} {
		path := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", path, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, "../../programs/"+name, string(program))
		if output, err := s.try("chmod", "755", folder+"/"+name); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	output := newServedLog(t)
	for _, name := range []string{"collector.socket", "collector.service", "agent.service"} {
		text, err := os.ReadFile(filepath.Join("examples/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, name, strings.ReplaceAll(string(text), "/usr/local/bin", folder))
		extra := "[Unit]\nDefaultDependencies=no\n" // There is nothing to depend on.
		if strings.HasSuffix(name, ".service") {
			extra += "[Service]\nStandardError=append:" + s.log.Name() + "\nStandardOutput=append:" + output.path + "\n" // There is no journal.
		}
		s.write(t, name+".d/test.conf", extra)
	}
	s.control(t, "daemon-reload")
	t.Cleanup(func() {
		if t.Failed() {
			status, _ := s.try("systemctl", "status", "--no-pager", "collector.socket", "collector.service", "agent.service")
			t.Log(status)
		}
		_, _ = s.try("systemctl", "stop", "agent.service", "collector.service", "collector.socket")
	})
	s.control(t, "start", "collector.socket", "agent.service")
	lines := func() int {
		text, _ := os.ReadFile(output.path)
		return strings.Count(string(text), "\n")
	}
	for range 3 {
		before := lines()
		until(t, "a line of the agent's has come", func() bool { return lines() > before })
		s.control(t, "restart", "collector.service")
	}
	s.control(t, "stop", "agent.service")
	s.control(t, "stop", "collector.service")
	text, err := os.ReadFile(output.path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if want := fmt.Sprintf("message %d", i+1); !strings.HasSuffix(line, want) {
			t.Errorf("line %d is %q, want %q", i+1, line, want)
		}
	}
	said, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%d messages were handled, 0 were not\n", lines()); !strings.HasSuffix(string(said), want) {
		t.Errorf("%q does not end with %q", said[max(0, len(said)-300):], want) // Nothing went wrong between, either.
	}
	if n := s.show(t, "collector.service", "NRestarts"); n != "0" {
		t.Errorf("the collector failed %s times", n)
	}
}
