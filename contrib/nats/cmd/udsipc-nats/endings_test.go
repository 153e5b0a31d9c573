// SPDX-License-Identifier: Apache-2.0

package main

// How the daemon ends.

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/failures"
)

// TestDaemon_AllParts_EndWhileClusterIsAway without a failure, although the Reader of local writers takes all the
// time that a stop has.
func TestDaemon_AllParts_EndWhileClusterIsAway(t *testing.T) {
	s := supervise(t, "UDSIPC_NATS_PREFIX=events", "UDSIPC_NATS_CONSUMER=c", "UDSIPC_NATS_STOP_TIMEOUT=500ms")
	reports, worker := filepath.Join(s.dir, "failures"), filepath.Join(s.dir, "worker")
	s.env = append(s.env, "UDSIPC_NATS_TO="+worker, "UDSIPC_NATS_FAILURES="+reports)
	js, stream := s.stream(jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true,
	})
	cfg := jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := stream.CreateConsumer(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	reporter, err := failures.NewReporter(reports)
	if err != nil {
		t.Fatal(err)
	}
	defer reporter.Close()
	refuse := func([]byte) error { return errors.New("no") }
	r, err := udsipc.NewReader(refuse, worker, udsipc.WithoutSystemd(), udsipc.WithMaxRedeliveries(0),
		udsipc.WithDeadLetter(reporter.Report))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.start()
	s.hears("READY=1")
	if _, err := js.Publish(t.Context(), "events.x", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	s.until("reported", func() bool { return strings.Contains(s.get(), "udsipc_forwarder_failed_total 1\n") })
	s.c.StopServer(0)
	w, err := udsipc.NewWriter(s.address(), udsipc.WithAcknowledgements(), udsipc.WithCloseTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.WriteMessage([]byte("waits")); err != nil {
		t.Fatal(err)
	}
	s.until("waits", func() bool { return strings.Contains(s.get(), "udsipc_publisher_waiting 1\n") })
	s.ends(handOver)
}

// TestDaemon_ImpossibleSetting_EndsWith2, so that systemd does not start it again.
func TestDaemon_ImpossibleSetting_EndsWith2(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"MAX_BATCH=0", "PREFIX=a..b", "ACK_TIMEOUT=-1s", "READ_BUFFER=9999999999", "MODE=0",
		"BATCH_WAIT=-1s", "LISTEN=", "MAX_DELIVERIES=0", "DEAD_LETTERS=a b"} {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "UDSIPC_NATS_TEST_DAEMON=1", "UDSIPC_NATS_STREAM=S", "UDSIPC_NATS_PREFIX=p",
			"UDSIPC_NATS_CONSUMER=c", "UDSIPC_NATS_TO=/nowhere", "UDSIPC_NATS_LISTEN="+filepath.Join(t.TempDir(), "s"),
			"UDSIPC_NATS_"+setting)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		text, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%s: ends with %d: want 2: %s", setting, code, text)
		}
	}
}
