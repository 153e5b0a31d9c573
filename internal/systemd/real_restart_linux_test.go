// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

const restarts = 10

func firstConnection(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"first.socket":  {Socket: "ListenStream=" + path},
		"first.service": {Service: "Type=notify\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "first.socket")
	if state := s.show(t, "first.service", "ActiveState"); state != "inactive" {
		t.Fatalf("the service is %s before anybody connects", state)
	}
	ipctest.Send(t, path, "hello")
	log.Want(t, "hello")
	if state := s.show(t, "first.service", "ActiveState"); state != "active" {
		t.Errorf("the service is %s", state)
	}
	s.control(t, "stop", "first.service")
	if ipctest.Lstat(t, path) == nil {
		t.Error("the service took systemd's socket along")
	}
}

func restartsWithSocket(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"again.socket": {Socket: "ListenStream=" + path},
		"again.service": {Service: "Type=notify\nStartLimitBurst=0\n" +
			s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "again.socket")
	stream := ipctest.StartTorrent(t, path)
	for range restarts {
		stream.Progress(t)
		s.control(t, "restart", "again.service")
	}
	stream.Progress(t)
	count := stream.End(t)
	s.control(t, "stop", "again.service")
	if repeats := log.Numbers(t, count); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	t.Logf("%d messages, %d connections", count, stream.W.Metrics().Connections)
}

func restartsWithStore(t *testing.T, s *bootedSystemd, opts ...udsipc.WriterOption) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"store.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=16\nRestartKillSignal=SIGUSR2\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path),
		},
	})
	s.control(t, "start", "store.service")
	stream := ipctest.StartTorrent(t, path, opts...)
	idle := ipctest.StartWriter(t, path, opts...)
	if err := idle.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range restarts {
		stream.Progress(t)
		s.control(t, "restart", "store.service")
	}
	stream.Progress(t)
	count := stream.End(t)
	for name, w := range map[string]*udsipc.Writer{"full speed": stream.W, "idle": idle} {
		if m := w.Metrics(); m.Connections != 1 {
			t.Errorf("%s: %d connections were made, want one: %+v", name, m.Connections, m)
		}
	}
	ipctest.Stop(t, idle)
	s.control(t, "stop", "store.service")
	if ipctest.Lstat(t, path) != nil {
		t.Error("the socket is still there")
	}
	if repeats := log.Numbers(t, count); repeats != 0 {
		t.Errorf("%d repeats", repeats)
	}
	t.Logf("%d messages", count)
}

// restartsWithoutStore: a service that hands over without FileDescriptorStoreMax= loses nothing by it, and says so.
func restartsWithoutStore(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"nostore.socket": {Socket: "ListenStream=" + path},
		"nostore.service": {
			Unit:    "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestartKillSignal=SIGUSR2\n" + s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path),
		},
	})
	s.control(t, "start", "nostore.socket")
	torrent := ipctest.StartTorrent(t, path)
	for range 3 {
		torrent.Progress(t)
		s.control(t, "restart", "nostore.service")
	}
	torrent.Progress(t)
	count := torrent.End(t)
	s.control(t, "stop", "nostore.service")
	if repeats := log.Numbers(t, count); repeats != 0 {
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
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"thousand.service": {
			Service: "Type=notify\nFileDescriptorStoreMax=1040\nLimitNOFILE=8192\nRestartKillSignal=SIGUSR2\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path, "NAME=thousand")},
	})
	s.control(t, "start", "thousand.service")
	var conns []net.Conn
	for range connections {
		conn := ipctest.MustDial(t, path)
		ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
		conns = append(conns, conn)
	}
	ipctest.Until(t, "all are there", func() bool { return len(log.Records(t)) == connections })
	s.control(t, "restart", "thousand.service")
	for _, conn := range conns {
		ipctest.MustWrite(t, conn, ipctest.Frames("again"))
	}
	ipctest.Until(t, "all are still there", func() bool { return len(log.Records(t)) == 2*connections })
}

// restartsUnderLargeMessages: streams of messages that together need more read memory than there is.
func restartsUnderLargeMessages(t *testing.T, s *bootedSystemd) {
	const streams, size = 8, 9 << 20 // More than the read memory.
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"large.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=40\nRestartKillSignal=SIGUSR2\nTimeoutStopSec=20\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path),
		},
	})
	s.control(t, "start", "large.service")
	f := ipctest.StartFlood(t, path, streams, size)
	for range 2 {
		before := f.Sent.Load()
		ipctest.Until(t, "the streams get on", func() bool { return f.Sent.Load() >= before+2*streams })
		s.control(t, "restart", "large.service")
	}
	before := f.Sent.Load()
	ipctest.Until(t, "the streams get on", func() bool { return f.Sent.Load() >= before+2*streams })
	if failed := f.Failed.Load(); failed != 0 {
		t.Errorf("%d of %d connections were not handed over", failed, streams)
	}
	f.End()
	s.control(t, "stop", "large.service")
	if n, sent := len(log.Records(t)), int(f.Sent.Load()); n < sent || n > sent+streams {
		t.Errorf("%d messages were handled of %d", n, sent)
	}
}

// storeTooSmall: some connections are handed over, the others end as at a stop, and nothing of either is lost.
func storeTooSmall(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"small.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nFileDescriptorStoreMax=3\nRestartKillSignal=SIGUSR2\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path),
		},
	})
	s.control(t, "start", "small.service")
	torrent := ipctest.StartTorrent(t, path, udsipc.WithAcknowledgements())
	idle := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
	if err := idle.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		torrent.Progress(t)
		s.control(t, "restart", "small.service")
	}
	torrent.Progress(t)
	count := torrent.End(t)
	ipctest.Stop(t, idle)
	s.control(t, "stop", "small.service")
	t.Logf("%d messages, %d repeats", count, log.Numbers(t, count))
}

// writerEndsMeanwhile: what a writer sends and leaves while there is no process is not lost (FDPOLL=0).
func writerEndsMeanwhile(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"ends.service": {
			Service: "Type=notify\nFileDescriptorStoreMax=16\nRestartKillSignal=SIGUSR2\nExecStartPre=sleep 0.5\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path)},
	})
	s.control(t, "start", "ends.service")
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
	log.Want(t, "hello")
	s.control(t, "restart", "--no-block", "ends.service")
	ipctest.Until(t, "no process is there", func() bool { return s.show(t, "ends.service", "SubState") == "start-pre" })
	ipctest.MustWrite(t, conn, ipctest.Frames("last"))
	conn.Close()
	log.Want(t, "hello", "last")
}

func killedUnderSystemd(t *testing.T, s *bootedSystemd) {
	log, path := ipctest.NewServedLog(t), ipctest.SocketPath(t)
	s.install(t, map[string]unit{
		"killed.socket": {Socket: "ListenStream=" + path},
		"killed.service": {
			Unit: "StartLimitIntervalSec=0",
			Service: "Type=notify\nRestart=always\nRestartSec=10ms\n" +
				s.runRole(t, "collector", "ADDRESS="+path, "LOG="+log.Path),
		},
	})
	s.control(t, "start", "killed.socket")
	stream := ipctest.StartTorrent(t, path, udsipc.WithAcknowledgements())
	for range restarts {
		stream.Progress(t)
		s.control(t, "kill", "--signal=KILL", "killed.service")
	}
	stream.Progress(t)
	count := stream.End(t)
	s.control(t, "stop", "killed.service")
	t.Logf("%d messages, %d repeats", count, log.Numbers(t, count))
	if restarts := s.show(t, "killed.service", "NRestarts"); restarts == "0" {
		t.Error("the service was not killed")
	}
}
