// SPDX-License-Identifier: Apache-2.0

package sender

// A loop over a Unix socket: the kernel tells what its peer has read.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// unixLoop is a loop with a message, which is written over a Unix socket.
func unixLoop(t *testing.T) (*testLoop, net.Conn) { return unixLoopOf(t, queue.Limits{}) }

// unixLoopOf is unixLoop with these limits.
func unixLoopOf(t *testing.T, limits queue.Limits) (*testLoop, net.Conn) {
	t.Helper()
	l := loopOf(t, Config{}, limits)
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	l.cfg.Dial = func(context.Context) (net.Conn, error) { return ends[0], nil }
	l.push("a")
	l.started()
	if err := l.queue.Flush(within(t, time.Minute)); err != nil { // Until it is with the kernel.
		t.Fatal(err)
	}
	return l, ends[1]
}

func TestLoop_StopUnixSocket_WaitsUntilRead(t *testing.T) {
	t.Parallel()
	l, far := unixLoop(t)
	stopped := make(chan error, 1)
	go func() { stopped <- l.Stop(within(t, time.Minute)) }() // Ends once it is read.
	select {
	case err := <-stopped:
		t.Fatalf("it stops before everything is read: %v", err)
	case <-time.After(250 * time.Millisecond): // Longer than a peer is waited for that has read everything.
	}
	if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if counts := l.Snapshot(); counts.LostConnections != 0 || counts.PossiblyLost != 0 {
		t.Errorf("%+v", counts)
	}
}

func TestLoop_StopUnixSocketClosed_ReportsLoss(t *testing.T) {
	t.Parallel()
	l, far := unixLoop(t)
	l.life.Stop() // Before the peer ends: a loop that goes on would connect again.
	far.Close()
	if err := l.Stop(within(t, time.Minute)); err == nil ||
		err.Error() != "udsipc: stopped: up to 1 message may be lost" {
		t.Error(err)
	}
	if counts := l.Snapshot(); counts.LostConnections != 1 || counts.PossiblyLost != 1 {
		t.Errorf("%+v", counts)
	}
}

// TestLoop_FlushUnixSocket_WaitsUntilRead, or its context ends.
func TestLoop_FlushUnixSocket_WaitsUntilRead(t *testing.T) {
	t.Parallel()
	l, far := unixLoop(t)
	if err := l.Flush(within(t, 20*time.Millisecond)); err == nil ||
		err.Error() != "waiting for the peer to read: context deadline exceeded" {
		t.Error(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestLoop_StopForcedUnixSocket_ReportsUnread(t *testing.T) {
	t.Parallel()
	l, far := unixLoop(t)
	defer far.Close() // Not earlier, as the collector might.
	err := l.Stop(within(t, 20*time.Millisecond))
	<-l.life.Done()
	// On a busy machine the first call returns before the goroutine has ended, and the second one reports the message.
	err = errors.Join(err, l.Stop(t.Context()))
	if !strings.Contains(err.Error(), "up to 1 message is with the kernel, but not read by the peer yet: ") {
		t.Error(err)
	}
	if counts := l.Snapshot(); counts.LostConnections != 0 || counts.PossiblyLost != 0 {
		t.Errorf("%+v", counts)
	}
}

// TestLoop_StopForcedInCallback_IsNoSuccess: the goroutine has not ended, so it is not known yet what was read. A later
// Stop reports it.
func TestLoop_StopForcedInCallback_IsNoSuccess(t *testing.T) {
	t.Parallel()
	l, far := unixLoop(t)
	defer far.Close() // Not earlier, as the collector might.
	l.hold = make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	err := l.Stop(ctx)
	if err == nil || err.Error() != "the connection has not ended yet, and messages may be unread: enough" {
		t.Error(err)
	}
	close(l.hold)
	<-l.life.Done()
	for _, want := range []string{"up to 1 message is with the kernel, but not read by the peer yet: ", "<nil>"} {
		if err := l.Stop(t.Context()); !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
