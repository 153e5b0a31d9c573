// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestHandOver_NewerConnection_FencesPausedOne: a writer's connection is at rest, and a newer one
// of the same writer, whose hello was under way, takes over from it. The newer one is handed over.
func TestHandOver_NewerConnection_FencesPausedOne(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}
	first := hello.Append(nil)
	older := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, older, first)
	ipctest.AwaitWelcome(t, older)
	hello.Epoch = 2
	second := hello.Append(nil)
	newer := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, newer, second[:20])
	ipctest.Until(t, "half a hello is read", func() bool { return r.Metrics().ReceivedBytes == uint64(len(first)+20) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.HandOver(ctx) }()
	manager.Says(t, "FDSTORE=1\nFDNAME=udsipc-session-")
	ipctest.MustWrite(t, newer, second[20:])
	if err := ipctest.Await(t, "the end of the hand-over", ended); err != nil {
		t.Fatal(err)
	}
	if m := r.Metrics(); m.HandedOver != 1 {
		t.Errorf("%+v", m)
	}
	ipctest.AwaitWelcome(t, newer)
	manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path)
	ipctest.MustWrite(t, newer, ipctest.Frames("hello"))
	log.Want(t, "hello")
	ipctest.AwaitAck(t, newer, 1)
}

// TestHandOver_ContextEndsDuringConfirm_KeepsConnections, while systemd is asked whether it keeps
// everything, which it does: no connection is told of an end, because the next process goes on with
// all of them.
func TestHandOver_ContextEndsDuringConfirm_KeepsConnections(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	gate := make(chan struct{})
	manager.HoldBarriers(gate)
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("here"))
	ipctest.Until(t, "a message is there", func() bool { return r.Metrics().Received == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.HandOver(ctx) }()
	manager.Says(t, "FDSTORE=1\nFDNAME=udsipc-probe-")
	cancel()
	if err := ipctest.Await(t, "the end of the hand-over", ended); err == nil {
		t.Error("the context has ended, and there is no error")
	}
	close(gate)
	ipctest.Until(t, "the connection is handed over", func() bool { return r.Metrics().HandedOver == 1 })
	ipctest.MustWrite(t, conn, ipctest.Frames("there"))
	manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path)
	log.Want(t, "there")
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("%d bytes were said, %v", n, err)
	}
}

// TestHandOver_ContextEndsAnywhere_AccountsForMessages: wherever the context ends, with
// acknowledgements nothing is lost and repeats are marked; a plain Writer has no repeats, and
// reports what is lost.
func TestHandOver_ContextEndsAnywhere_AccountsForMessages(t *testing.T) {
	t.Parallel()
	const generations = 20
	for name, opts := range map[string][]udsipc.WriterOption{
		"plain": nil, "acknowledged": {udsipc.WithAcknowledgements()},
	} {
		t.Run(name, func(t *testing.T) {
			manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
			generation := func() *exec.Cmd {
				patience := time.Duration(rand.IntN(25_000)) * time.Microsecond
				return manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path, "PATIENCE="+patience.String())
			}
			cmd := generation()
			torrent := ipctest.StartTorrent(t, path, opts...)
			for range generations {
				torrent.Progress(t)
				if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // An error, if there was too little.
				cmd = generation()
			}
			torrent.Progress(t)
			torrent.Cancel()
			count := ipctest.Await(t, "the end of writing", torrent.Count)
			ipctest.StopAndTell(t, torrent.W)
			manager.End(t, cmd, syscall.SIGTERM)
			if opts != nil {
				log.Numbers(t, count)
				return
			}
			var next, missing uint64
			for _, record := range log.Records(t) {
				n := binary.BigEndian.Uint64([]byte(record))
				if n < next {
					t.Fatalf("number %d came again after %d", n, next-1)
				}
				missing += n - next
				next = n + 1
			}
			missing += count - next
			if lost := torrent.W.Metrics().PossiblyLost; missing > lost {
				t.Errorf("%d of %d messages are missing, %d are reported", missing, count, lost)
			}
		})
	}
}

func init() {
	ipctest.Roles["second try"] = func() error { // Start fails because of the directory, and then does not.
		got := make(chan string, 1)
		r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil }, os.Getenv("ADDRESS"))
		if err != nil {
			return err
		}
		dir := filepath.Dir(os.Getenv("ADDRESS"))
		if err := os.Chmod(dir, 0o777); err != nil {
			return err
		}
		if err := r.Start(); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			return fmt.Errorf("Start: %w, want %w", err, udsipc.ErrInvalidSocketPath)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		<-got
		return r.Stop(context.Background())
	}
}

// TestHandOver_StartFails_KeepsListener: a Start that failed has not lost the listener that it was left.
func TestHandOver_StartFails_KeepsListener(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	manager.End(t, manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path), syscall.SIGUSR2)
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("waited"))
	if output, err := manager.Service(t, "second try", "ADDRESS="+path).Output(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// TestHandOver_TwiceAtOnce_HandsOverOnce, as two signals ask for it: the second call waits for the
// first, and undoes nothing of it.
func TestHandOver_TwiceAtOnce_HandsOverOnce(t *testing.T) {
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	for range 30 {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, ipctest.Ignore, path)
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("here"))
		ipctest.Until(t, "the message is there", func() bool { return r.Metrics().Received == 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ended, begin := make(chan error, 3), make(chan struct{})
		for range cap(ended) {
			go func() { <-begin; ended <- r.HandOver(ctx) }()
		}
		close(begin)
		for range cap(ended) {
			if err := ipctest.Await(t, "the end of a hand-over", ended); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if m := r.Metrics(); m.HandedOver != 1 || m.Connections != 0 {
			t.Fatalf("%d connections were handed over, %d are left", m.HandedOver, m.Connections)
		}
		if names := manager.Names(); len(names) != 3 { // The listener, the connection and the memory.
			t.Errorf("%q are stored", names)
		}
		manager.Forget("udsipc-")
	}
}

// TestHandOver_AckNotTaken_EndsConnection: if the last acknowledgement cannot be written, the connection ends. The
// next process would never repeat it, and the writer would wait for it.
func TestHandOver_AckNotTaken_EndsConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	manager, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.SocketPath(t)
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	r := ipctest.StartReader(t, func(data []byte) error {
		if string(data) == "last" {
			entered <- struct{}{}
			<-gate
		}
		return nil
	}, path)
	hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}
	conn, _ := ipctest.OpenSession(t, path, hello)
	for n := uint64(1); r.Metrics().Connections == 1; n++ {
		_, _ = conn.Write(ipctest.Frames("x")) // The Reader ends the connection once an acknowledgement does not fit.
		ipctest.Until(t, "it is acknowledged, or the connection has ended", func() bool {
			m := r.Metrics()
			return m.Acknowledged == n || m.Connections == 0
		})
	}
	acknowledged := r.Metrics().Acknowledged
	fits := acknowledged - 1 // So many acknowledgements fit into the socket.
	hello.Writer[0]++
	conn, _ = ipctest.OpenSession(t, path, hello)
	for n := range fits {
		ipctest.MustWrite(t, conn, ipctest.Frames("x"))
		ipctest.Until(t, "it is acknowledged", func() bool { return r.Metrics().Acknowledged == acknowledged+n+1 })
	}
	ipctest.MustWrite(t, conn, ipctest.Frames("last"))
	ipctest.Await(t, "the handler", entered)
	ended := make(chan error, 1)
	go func() { ended <- r.HandOver(t.Context()) }()
	manager.Says(t, "STOPPING=1")
	close(gate)
	if err := ipctest.Await(t, "the end of the hand-over", ended); err != nil {
		t.Error(err)
	}
	if m := r.Metrics(); m.HandedOver != 0 {
		t.Errorf("%d connections were handed over", m.HandedOver)
	}
	ipctest.ReadToEnd(t, conn)
}
