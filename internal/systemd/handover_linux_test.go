// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestHandOver_FiveProcesses_LosesNothing has five processes follow one another under Writers at
// full speed, which must not notice.
func TestHandOver_FiveProcesses_LosesNothing(t *testing.T) {
	t.Parallel()
	const generations = 5
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		for name, opts := range map[string][]udsipc.WriterOption{
			"plain": nil, "acknowledged": {udsipc.WithAcknowledgements()},
		} {
			t.Run(name, func(t *testing.T) {
				manager, log := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t)
				environment := []string{"ADDRESS=" + address, "LOG=" + log.Path}
				cmd := manager.Generation(t, environment...)
				torrent, idle := ipctest.StartTorrent(t, address, opts...), ipctest.StartWriter(t, address, opts...)
				if err := idle.WaitConnected(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range generations {
					torrent.Progress(t)
					manager.End(t, cmd, syscall.SIGUSR2)
					// The listener, the memory, and two connections, of which one may still be in
					// the backlog.
					if n := len(manager.Names()); n < 3 || n > 4 {
						t.Fatalf("%d descriptors are stored: %q", n, manager.Names())
					}
					cmd = manager.Generation(t, environment...)
					ipctest.Until(t, "nothing is stored any more", func() bool { return len(manager.Names()) == 0 })
				}
				torrent.Progress(t)
				count := torrent.End(t)
				if m := torrent.W.Metrics(); m.Connections != 1 || m.Retransmitted != 0 {
					t.Errorf("%+v", m)
				}
				if m := idle.Metrics(); m.Connections != 1 || m.LostConnections != 0 {
					t.Errorf("%+v", m)
				}
				ipctest.Stop(t, idle)
				manager.End(t, cmd, syscall.SIGTERM)
				if repeats := log.Numbers(t, count); repeats != 0 {
					t.Errorf("%d repeats", repeats)
				}
			})
		}
	})
}

// TestHandOver_StartedMessage_IsReadToItsEnd: a message that has begun is read to its end, and nothing behind it.
func TestHandOver_StartedMessage_IsReadToItsEnd(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	cmd := manager.Generation(t, environment...)
	conn := ipctest.MustDial(t, path)
	stream := ipctest.Frames("hello", strings.Repeat("x", 300_000), "a", "b") // A length of three bytes.

	ipctest.MustWrite(t, conn, stream[:7]) // "hello" and one byte of the length.
	log.Want(t, "hello")
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	manager.Says(t, "STOPPING=1")
	ipctest.MustWrite(t, conn, stream[7:])
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	log.Want(t, "hello", "xxxxxxxx\x00") // The first eight, which count as a number.
	if !slices.ContainsFunc(manager.Names(), func(name string) bool { return strings.HasPrefix(name, "udsipc-plain-") }) {
		t.Fatalf("the connection is not stored: %q", manager.Names())
	}
	cmd = manager.Generation(t, environment...)
	log.Want(t, "hello", "xxxxxxxx\x00", "a", "b")
	conn.Close()
	manager.End(t, cmd, syscall.SIGTERM)
}

// TestHandOver_IncompleteMessage_ClosesConnection: a message whose rest does not come ends its connection as Stop does.
func TestHandOver_IncompleteMessage_ClosesConnection(t *testing.T) {
	t.Parallel()
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	cmd := manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path)
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello", "never")[:8])
	log.Want(t, "hello")
	manager.End(t, cmd, syscall.SIGUSR2)
	for _, name := range manager.Names() {
		if strings.Contains(name, "plain") {
			t.Errorf("%s is stored", name)
		}
	}
	if said, err := io.ReadAll(conn); len(said) < 2 || said[0] != 0 || err != nil { // The goodbye and the report.
		t.Errorf("% x, %v", said, err)
	}
}

// TestHandOver_StateMissing_MarksRedelivered: what the next process cannot know costs repeats that
// are marked, and no message.
func TestHandOver_StateMissing_MarksRedelivered(t *testing.T) {
	t.Parallel()
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	cmd := manager.Generation(t, environment...)
	torrent := ipctest.StartTorrent(t, path, udsipc.WithAcknowledgements())
	for range 3 {
		torrent.Progress(t)
		manager.End(t, cmd, syscall.SIGUSR2)
		manager.Forget("-memory-")
		cmd = manager.Generation(t, environment...)
	}
	torrent.Progress(t)
	count := torrent.End(t)
	manager.End(t, cmd, syscall.SIGTERM)
	t.Logf("%d messages, %d repeats", count, log.Numbers(t, count))
}

// TestHandOver_Killed_LosesNothingAcknowledged in its middle, or right behind it: with
// acknowledgements nothing is lost.
func TestHandOver_Killed_LosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	cmd := manager.Generation(t, environment...)
	torrent := ipctest.StartTorrent(t, path, udsipc.WithAcknowledgements())
	for i := range 20 {
		torrent.Progress(t)
		if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			manager.Says(t, "FDSTORE=1\nFDNAME=udsipc-listener.")
		} else {
			manager.Says(t, "FDSTORE=1\nFDNAME=udsipc-session-")
		}
		_ = cmd.Process.Kill() // It may have ended by itself.
		_ = cmd.Wait()
		cmd = manager.Generation(t, environment...)
	}
	torrent.Progress(t)
	count := torrent.End(t)
	manager.End(t, cmd, syscall.SIGTERM)
	t.Logf("%d messages, %d repeats", count, log.Numbers(t, count))
}

// TestHandOver_Backlog_IsServedByNextProcess: who connects while no process is there is served by the next one.
func TestHandOver_Backlog_IsServedByNextProcess(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	manager.End(t, manager.Generation(t, environment...), syscall.SIGUSR2)
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
	cmd := manager.Generation(t, environment...)
	log.Want(t, "hello")
	manager.End(t, cmd, syscall.SIGTERM)
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

// TestHandOver_SlowHandler_KeepsConnection: what is already buffered may take long to handle; the
// connection is handed over all the same.
func TestHandOver_SlowHandler_KeepsConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	path := ipctest.SocketPath(t)
	var handled atomic.Int64
	r := ipctest.StartReader(t, func([]byte) error {
		if handled.Add(1) > 2000 {
			time.Sleep(20 * time.Millisecond) // Some 80 messages are buffered.
		}
		return nil
	}, path)
	torrent := ipctest.StartTorrent(t, path)
	ipctest.Until(t, "the buffer is full", func() bool { return handled.Load() > 2010 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.HandOver(ctx); err != nil {
		t.Error(err)
	}
	if m := r.Metrics(); m.HandedOver != 1 {
		t.Errorf("the connection was not handed over: %+v", m)
	}
	torrent.Cancel()
	ipctest.Await(t, "the end of writing", torrent.Count)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = torrent.W.Stop(ended) // Nobody follows.
}

// TestHandOver_NewAddress_ServesOldBacklog: the next process listens where it is told to, and
// serves who waited at the old one.
func TestHandOver_NewAddress_ServesOldBacklog(t *testing.T) {
	t.Parallel()
	for name, addresses := range map[string][2]string{
		"tcp":      {ipctest.TcpAddress(t), ipctest.TcpAddress(t)},
		"unix":     {ipctest.SocketPath(t), ipctest.SocketPath(t)},
		"abstract": {ipctest.AbstractName(t), ipctest.AbstractName(t)},
	} {
		t.Run(name, func(t *testing.T) {
			manager, log := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t)
			cmd := manager.Generation(t, "ADDRESS="+addresses[0], "LOG="+log.Path, "NAME=x")
			manager.End(t, cmd, syscall.SIGUSR2)
			ipctest.MustWrite(t, ipctest.MustDial(t, addresses[0]), ipctest.Frames("waited"))
			cmd = manager.Generation(t, "ADDRESS="+addresses[1], "LOG="+log.Path, "NAME=x")
			log.Want(t, "waited")
			ipctest.Send(t, addresses[1], "hello")
			log.Want(t, "waited", "hello")
			manager.End(t, cmd, syscall.SIGTERM)
		})
	}
}

// TestHandOver_SocketFileRemoved_ServesBacklog: systemd removes RuntimeDirectory= at a restart; who
// had connected before is served.
func TestHandOver_SocketFileRemoved_ServesBacklog(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	manager.End(t, manager.Generation(t, environment...), syscall.SIGUSR2)
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("waited"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	cmd := manager.Generation(t, environment...)
	log.Want(t, "waited")
	ipctest.Send(t, path, "hello")
	log.Want(t, "waited", "hello")
	manager.End(t, cmd, syscall.SIGTERM)
}
