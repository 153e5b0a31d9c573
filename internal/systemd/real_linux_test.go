// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func init() {
	ipctest.Roles["collector"] = collectNumbers
	ipctest.Roles["readers"] = collectByName
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
			_, err := fmt.Fprintf(log, "%-*s", ipctest.RecordSize, name+" "+string(data))
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
		fmt.Fprintf(log, "%-*s", ipctest.RecordSize, "left: "+passed.Name)
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
	opts = append(opts, udsipc.WithStatusInterval(100*time.Millisecond),
		udsipc.WithReaderErrorCallback(func(err error, _ string) {
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
			record := append(make([]byte, 0, ipctest.RecordSize), d.Data[:8]...)
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

func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	s := bootSystemd(t)
	t.Run("restarts", func(t *testing.T) {
		t.Run("with a socket unit", func(t *testing.T) { restartsWithSocket(t, s) })
		t.Run("with the descriptor store", func(t *testing.T) { restartsWithStore(t, s) })
		t.Run("with the descriptor store, acknowledged",
			func(t *testing.T) { restartsWithStore(t, s, udsipc.WithAcknowledgements()) })
		t.Run("without a descriptor store", func(t *testing.T) { restartsWithoutStore(t, s) })
		t.Run("a thousand connections", func(t *testing.T) { aThousandConnections(t, s) })
		t.Run("under large messages", func(t *testing.T) { restartsUnderLargeMessages(t, s) })
		t.Run("a store that is too small", func(t *testing.T) { storeTooSmall(t, s) })
		t.Run("killed with acknowledgements", func(t *testing.T) { killedUnderSystemd(t, s) })
		t.Run("watchdog", func(t *testing.T) { watchdogKills(t, s) })
	})
	for name, test := range map[string]func(*testing.T, *bootedSystemd){ // These wait for time to pass.
		"the first connection starts the service": firstConnection,
		"a writer that ends meanwhile":            writerEndsMeanwhile,
		"a long stop is extended":                 longStop,
		"Accept=yes":                              acceptYes,
		"sockets with names":                      socketsWithNames,
		"a user outside the group":                outsideTheGroup,
		"status":                                  statusIsShown,
		"the example":                             theExample,
		"the example with a spool":                theExampleWithSpool,
		"the journal through the tool":            journalThroughTool,
		"the tool hands over":                     toolHandsOver,
		"the journal from a cursor":               journalResumes,
		"the tool looks at a service":             toolLooksAtService,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func watchdogKills(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"stuck.socket": {Socket: "ListenStream=" + path},
		"stuck.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestart=always\nRestartSec=10ms\nWatchdogSec=400ms\nLimitCORE=0\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path, "STUCK_AFTER=200ms"),
		},
	})
	s.control(t, "start", "stuck.socket")
	ipctest.Send(t, path, "hello")
	log.Want(t, "hello")
	pid := s.show(t, "stuck.service", "MainPID")
	time.Sleep(time.Second) // Longer than the watchdog waits: one that lives is left alone.
	if now := s.show(t, "stuck.service", "MainPID"); now != pid {
		t.Fatalf("process %s has followed process %s, which was not stuck", now, pid)
	}
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("stuck"))
	ipctest.Until(t, "the watchdog has ended the service, and systemd has started it again", func() bool {
		return s.show(t, "stuck.service", "NRestarts") == "1" && s.show(t, "stuck.service", "ActiveState") == "active"
	})
	ipctest.Send(t, path, "hello")
	log.Want(t, "hello", "hello")
	output, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	// What the watchdog sends (WatchdogSignal=).
	for _, want := range []string{"SIGABRT", "a handler has not returned for more than 200ms"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

func longStop(t *testing.T, s *bootedSystemd) {
	const messages = 40 // 50 ms each: twice what systemd would wait.
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"long.socket": {Socket: "ListenStream=" + path},
		"long.service": {Service: "Type=notify\nTimeoutStopSec=1\n" +
			s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "long.socket")
	conn := ipctest.MustDial(t, path)
	var want []string
	for range messages {
		ipctest.MustWrite(t, conn, ipctest.Frames("slow"))
		want = append(want, "slow")
	}
	ipctest.Until(t, "the service is at work", func() bool { return len(log.Records(t)) > 0 })
	s.reloading.Lock() // A reload forgets that a stop was extended.
	defer s.reloading.Unlock()
	began := time.Now()
	s.control(t, "stop", "long.service")
	log.Want(t, want...)
	if result := s.show(t, "long.service", "Result"); result != "success" {
		t.Errorf("the result is %q after %v", result, time.Since(began))
	}
}

func statusIsShown(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"status.service": {Service: "Type=notify\nExecReload=kill -HUP $MAINPID\n" +
			s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "status.service")
	w := ipctest.StartWriter(t, path)
	ipctest.MustWriteMessage(t, w, "hello")
	ipctest.Until(t, "the status names the connection", func() bool {
		return strings.Contains(s.control(t, "status", "status.service"), `Status: "1 connection, `)
	})
	for range 30 { // 50 ms each, and a socket that holds the rest.
		ipctest.MustWriteMessage(t, w, "slow")
	}
	ipctest.Until(t, "the status has a rate", func() bool {
		output := s.show(t, "status.service", "StatusText")
		return strings.Contains(output, ", ") && !strings.Contains(output, " 0 messages/s")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.Stop(ctx) // They need not be handled.
	s.control(t, "reload", "--no-block", "status.service")
	ipctest.Until(t, "systemd knows that it reloads",
		func() bool { return s.show(t, "status.service", "SubState") == "reload" })
	ipctest.Until(t, "the service is ready again", func() bool {
		return s.show(t, "status.service", "ActiveState") == "active" && s.show(t, "status.service", "SubState") == "running"
	})
}

func acceptYes(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	tcp := ipctest.TcpAddress(t)
	service := unit{Service: "Type=notify\nCollectMode=inactive-or-failed\n" +
		s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)}
	s.install(t, map[string]unit{
		"each.socket":      {Socket: "Accept=yes\nListenStream=" + path},
		"each@.service":    service,
		"eachtcp.socket":   {Socket: "Accept=yes\nListenStream=" + strings.TrimPrefix(tcp, "tcp://")},
		"eachtcp@.service": service,
	})
	s.control(t, "start", "each.socket", "eachtcp.socket")
	var writers []*udsipc.Writer
	for _, address := range []string{path, path, tcp} {
		w := ipctest.StartWriter(t, address)
		ipctest.MustWriteMessage(t, w, "hello")
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	log.Want(t, "hello", "hello", "hello")
	instances := func() int {
		return strings.Count(s.control(t, "list-units", "--no-legend", "--state=active",
			"each@*.service", "eachtcp@*.service"), "\n") + 1
	}
	if n := instances(); n != len(writers) {
		t.Errorf("%d instances of the service run, want %d", n, len(writers))
	}
	for _, w := range writers {
		ipctest.MustWriteMessage(t, w, "hello")
		ipctest.Stop(t, w)
	}
	log.Want(t, "hello", "hello", "hello", "hello", "hello", "hello")
	ipctest.Until(t, "each instance has ended with its connection", func() bool {
		return s.control(t, "list-units", "--no-legend", "--all", "each@*.service", "eachtcp@*.service") == ""
	})
}

func socketsWithNames(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	tcp, abstract := ipctest.TcpAddress(t), ipctest.AbstractName(t)
	service := "Type=notify\nSockets=named-a.socket named-b.socket named-c.socket\n" +
		s.runRole(t, "readers", "ADDRESS="+path, "LOG="+log.Path)
	s.install(t, map[string]unit{
		"named-a.socket": {Socket: "FileDescriptorName=a\nService=named.service\nListenStream=" + path + "a"},
		"named-b.socket": {Socket: "FileDescriptorName=b\nService=named.service\nListenStream=" + abstract},
		"named-c.socket": {Socket: "FileDescriptorName=c\nService=named.service\nListenStream=" +
			strings.TrimPrefix(tcp, "tcp://")},
		"named.service": {Service: service},
	})
	s.control(t, "start", "named-a.socket", "named-b.socket", "named-c.socket")
	ipctest.Send(t, path+"a", "1")
	log.Want(t, "left: c", "a 1")
	ipctest.Send(t, abstract, "2")
	log.Want(t, "left: c", "a 1", "b 2")
	s.control(t, "stop", "named.service")
	if result := s.show(t, "named.service", "Result"); result != "success" {
		t.Errorf("the result is %q", result)
	}
}

func outsideTheGroup(t *testing.T, s *bootedSystemd) {
	log, dir := ipctest.NewServedLog(t), ipctest.OpenDir(t)
	path := filepath.Join(dir, "s")
	group, err := user.LookupGroupId(strconv.Itoa(ipctest.Nobody)) // The one of AsNobody.
	if err != nil {
		t.Skip(err)
	}
	s.install(t, map[string]unit{
		"group.socket":  {Socket: "ListenStream=" + path + "\nSocketMode=0660\nSocketGroup=root"},
		"group.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
		"other.socket":  {Socket: "ListenStream=" + path + "2\nSocketMode=0660\nSocketGroup=" + group.Name},
		"other.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "group.socket", "other.socket")
	for address, want := range map[string]string{path: "kept out", path + "2": "let in"} {
		_, output := ipctest.AsNobody(t, dir, "visitor", "SOCKET="+address)
		if !output.Scan() || output.Text() != want {
			t.Errorf("%s: %q, want %q", address, output.Text(), want)
		}
	}
}

// theExample installs the units of examples/systemd, with all that they take away from the programs, and restarts
// the collector under the agent.
func theExample(t *testing.T, s *bootedSystemd) {
	output := s.installExamples(t, map[string]string{
		"collector": "./examples/systemd", "agent": "./examples/systemd/agent",
	}, "collector.socket", "collector.service", "agent.service")
	s.control(t, "start", "collector.socket", "agent.service")
	lines := func() int {
		text, _ := os.ReadFile(output)
		return strings.Count(string(text), "\n")
	}
	for range 3 {
		before := lines()
		ipctest.Until(t, "a line of the agent's has come", func() bool { return lines() > before })
		s.control(t, "restart", "collector.service")
	}
	s.control(t, "stop", "agent.service")
	s.control(t, "stop", "collector.service")
	text, err := os.ReadFile(output)
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
	// Others write there too.
	if want := fmt.Sprintf("%d messages were handled, 0 were not\n", lines()); !strings.Contains(string(said), want) {
		t.Errorf("%q does not have %q", said[max(0, len(said)-300):], want)
	}
	if n := s.show(t, "collector.service", "NRestarts"); n != "0" {
		t.Errorf("the collector failed %s times", n)
	}
}
