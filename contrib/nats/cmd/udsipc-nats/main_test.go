// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/failures"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// TestMain is the daemon itself in a process that a test has started.
func TestMain(m *testing.M) {
	if os.Getenv("UDSIPC_NATS_TEST_DAEMON") != "" {
		os.Args = os.Args[:1]
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // The end of the test, however it ends.
			os.Exit(3)
		}()
		main()
		return
	}
	os.Exit(m.Run())
}

// A test of the daemon in a process of its own, with a socket in systemd's place.
type supervised struct {
	*testing.T
	dir    string
	c      *cluster.Cluster
	notify chan string // What the daemon has notified.
	env    []string
	cmd    *exec.Cmd
	log    bytes.Buffer // Complete after the end.

	refuse  atomic.Bool // The server refuses all.
	refused atomic.Int32
}

// Check is for the server, which asks it about each client.
func (s *supervised) Check(server.ClientAuthentication) bool {
	if s.refuse.Load() {
		s.refused.Add(1)
		return false
	}
	return true
}

func (s *supervised) until(what string, is func() bool) {
	s.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not yet: %s", what)
		}
	}
}

func supervise(t *testing.T, env ...string) *supervised {
	t.Helper()
	s := &supervised{T: t, dir: t.TempDir()}
	var err error
	change := func(_ int, o *server.Options) { o.CustomClientAuthentication = s }
	if s.c, err = cluster.Start(1, s.dir, change); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.c.Close)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() })
	s.notify = make(chan string, 10_000)
	go s.receive(notify) // Ends with notify.
	s.env = append(os.Environ(), "UDSIPC_NATS_TEST_DAEMON=1", "NOTIFY_SOCKET="+filepath.Join(s.dir, "notify"),
		"WATCHDOG_USEC=200000", "UDSIPC_NATS_NATS="+s.c.URL(0), "UDSIPC_NATS_STREAM=EVENTS",
		"UDSIPC_NATS_LISTEN="+s.address(), "UDSIPC_NATS_METRICS="+filepath.Join(s.dir, "metrics"))
	s.env = append(s.env, env...)
	return s
}

func (s *supervised) address() string { return filepath.Join(s.dir, "s") }

func (s *supervised) start() {
	s.Helper()
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	s.cmd = exec.CommandContext(s.Context(), self)
	s.cmd.Env, s.cmd.Stderr = s.env, io.MultiWriter(os.Stderr, &s.log)
	if _, err := s.cmd.StdinPipe(); err != nil {
		s.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
}

// receive receives notifications as systemd does: at once. A listener that was passed with an unread one would stay
// open, and a Writer wait behind it.
func (s *supervised) receive(notify *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return
		}
		select {
		case s.notify <- string(buf[:n]):
		default: // Nobody waits for one of that many.
		}
	}
}

// hears waits for a notification.
func (s *supervised) hears(want string) {
	s.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case text := <-s.notify:
			if strings.Contains(text, want) {
				return
			}
		case <-limit:
			s.Fatalf("no notification %q", want)
		}
	}
}

// ends sends a signal and waits for the end.
func (s *supervised) ends(with os.Signal) {
	s.Helper()
	if err := s.cmd.Process.Signal(with); err != nil {
		s.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.Errorf("after %v: %v", with, err)
	}
}

func (s *supervised) stream(cfg jetstream.StreamConfig) (jetstream.JetStream, jetstream.Stream) {
	s.Helper()
	js, err := s.c.Connect(0)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(js.Conn().Close)
	stream, err := s.c.CreateStream(s.Context(), js, cfg)
	if err != nil {
		s.Fatal(err)
	}
	return js, stream
}

func (s *supervised) get() string {
	s.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "metrics"))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	got, err := client.Get("http://daemon/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer got.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(got.Body); err != nil {
		s.Fatal(err)
	}
	return b.String()
}

// TestDaemon_ClusterIsAway_KeepsRunning: handlers that wait for the cluster are not hung. A restart meanwhile is no
// failure and loses nothing: the next process goes on.
func TestDaemon_ClusterIsAway_KeepsRunning(t *testing.T) {
	s := supervise(t, "UDSIPC_NATS_PREFIX=events", "UDSIPC_NATS_STOP_TIMEOUT=500ms")
	_, stream := s.stream(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true})
	s.c.StopServer(0)
	s.start()
	s.hears("READY=1")
	w, err := udsipc.NewWriter(s.address(), udsipc.WithAcknowledgements(), udsipc.WithMaxBackoff(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	send := func(from, to int) {
		for n := from; n < to; n++ {
			if err := w.WriteMessage(fmt.Append(nil, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, 100)
	s.until("100 messages wait", func() bool { return strings.Contains(s.get(), "udsipc_publisher_waiting 100\n") })
	for range 5 {
		s.hears("WATCHDOG=1")
	}
	s.ends(handOver)
	if text := s.log.String(); !strings.Contains(text, "their writers keep them") {
		t.Error(text)
	}
	s.start()
	if err := s.c.StartServer(0); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if text := s.get(); !strings.Contains(text, "udsipc_publisher_published_total 100\n") ||
		!strings.Contains(text, "udsipc_nats_connected 1\n") {
		t.Error(text)
	}
	s.ends(syscall.SIGTERM)
	s.start()
	send(100, 200)
	if err := w.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	s.ends(syscall.SIGTERM)
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 200 {
		t.Errorf("%+v, %v: want 200 messages", info, err)
	}
}

// TestDaemon_Consumer_GoesToLocalReader, also again if its handler fails.
func TestDaemon_Consumer_GoesToLocalReader(t *testing.T) {
	got := make(chan string, 10)
	var calls atomic.Int32
	s := supervise(t, "UDSIPC_NATS_CONSUMER=c")
	address := filepath.Join(s.dir, "failures")
	s.env = append(s.env, "UDSIPC_NATS_TO="+s.address(), "UDSIPC_NATS_FAILURES="+address)
	reporter, err := failures.NewReporter(address)
	if err != nil {
		t.Fatal(err)
	}
	defer reporter.Close()
	js, stream := s.stream(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	cfg := jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := stream.CreateConsumer(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r, err := udsipc.NewReader(func(data []byte) error {
		got <- string(data)
		if calls.Add(1) == 1 {
			return errors.New("no")
		}
		return nil
	}, s.address(), udsipc.WithoutSystemd(), udsipc.WithMaxRedeliveries(0), udsipc.WithDeadLetter(reporter.Report))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.start()
	s.hears("READY=1")
	for range 3 {
		s.hears("WATCHDOG=1")
	}
	if _, err := js.Publish(t.Context(), "events.x", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if text := <-got; text != "hello" {
			t.Errorf("%q", text)
		}
	}
	s.until("handled", func() bool { return strings.Contains(s.get(), "udsipc_forwarder_handled_total 1\n") })
	if text := s.get(); !strings.Contains(text, "udsipc_forwarder_failed_total 1\n") {
		t.Error(text)
	}
	s.ends(syscall.SIGTERM)
}
