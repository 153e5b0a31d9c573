// SPDX-License-Identifier: Apache-2.0

package udsipc_test

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
)

// TestHandOverBesideANewerConnection: a writer's connection is at rest, and a newer one of the same writer, whose hello was
// under way, takes over from it. The newer one is handed over.
func TestHandOverBesideANewerConnection(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	r := startReader(t, ignore, path)
	hello := udsipc.Hello{Writer: udsipc.WriterID{1}, Attempt: 1, First: 1}
	first := hello.Bytes()
	older := mustDial(t, path)
	mustWrite(t, older, first)
	awaitWelcome(t, older)
	hello.Attempt = 2
	second := hello.Bytes()
	newer := mustDial(t, path)
	mustWrite(t, newer, second[:20])
	until(t, "half a hello is read", func() bool { return r.Metrics().ReceivedBytes == uint64(len(first)+20) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.HandOver(ctx) }()
	systemd.says(t, "FDSTORE=1\nFDNAME=udsipc-session-")
	mustWrite(t, newer, second[20:])
	if err := await(t, "the end of the hand-over", ended); err != nil {
		t.Fatal(err)
	}
	if m := r.Metrics(); m.HandedOver != 1 {
		t.Errorf("%+v", m)
	}
	awaitWelcome(t, newer)
	systemd.generation(t, "ADDRESS="+path, "LOG="+log.path)
	mustWrite(t, newer, frames("hello"))
	log.want(t, "hello")
	awaitAck(t, newer, 1)
}

// TestHandOverWhoseContextEndsLate, while systemd is asked whether it keeps everything, which it does: no connection is
// told of an end, because the next process goes on with all of them.
func TestHandOverWhoseContextEndsLate(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	gate := make(chan struct{})
	systemd.holdBarriers(gate)
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	r := startReader(t, ignore, path)
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("here"))
	until(t, "a message is there", func() bool { return r.Metrics().Received == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.HandOver(ctx) }()
	systemd.says(t, "FDSTORE=1\nFDNAME=udsipc-probe-")
	cancel()
	if err := await(t, "the end of the hand-over", ended); err == nil {
		t.Error("the context has ended, and there is no error")
	}
	close(gate)
	until(t, "the connection is handed over", func() bool { return r.Metrics().HandedOver == 1 })
	mustWrite(t, conn, frames("there"))
	systemd.generation(t, "ADDRESS="+path, "LOG="+log.path)
	log.want(t, "there")
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("%d bytes were said, %v", n, err)
	}
}

// TestHandOverWithLittlePatience: wherever the context ends, with acknowledgements nothing is lost and repeats are
// marked; a plain Writer has no repeats, and reports what is lost.
func TestHandOverWithLittlePatience(t *testing.T) {
	t.Parallel()
	const generations = 20
	for name, opts := range map[string][]udsipc.WriterOption{"plain": nil, "acknowledged": {udsipc.WithAcknowledgements()}} {
		t.Run(name, func(t *testing.T) {
			systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
			generation := func() *exec.Cmd {
				patience := time.Duration(rand.IntN(25_000)) * time.Microsecond
				return systemd.generation(t, "ADDRESS="+path, "LOG="+log.path, "PATIENCE="+patience.String())
			}
			cmd := generation()
			torrent := startTorrent(t, path, opts...)
			for range generations {
				torrent.progress(t)
				if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // An error, if there was too little.
				cmd = generation()
			}
			torrent.progress(t)
			torrent.cancel()
			count := await(t, "the end of writing", torrent.count)
			stopAndTell(t, torrent.w)
			systemd.end(t, cmd, syscall.SIGTERM)
			if opts != nil {
				log.numbers(t, count)
				return
			}
			var next, missing uint64
			for _, record := range log.records(t) {
				n := binary.BigEndian.Uint64([]byte(record))
				if n < next {
					t.Fatalf("number %d came again after %d", n, next-1)
				}
				missing += n - next
				next = n + 1
			}
			missing += count - next
			if lost := torrent.w.Metrics().PossiblyLost; missing > lost {
				t.Errorf("%d of %d messages are missing, %d are reported", missing, count, lost)
			}
		})
	}
}

func init() {
	roles["second try"] = func() error { // Start fails because of the directory, and then does not.
		got := make(chan string, 1)
		r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil }, os.Getenv("ADDRESS"))
		if err != nil {
			return err
		}
		folder := filepath.Dir(os.Getenv("ADDRESS"))
		if err := os.Chmod(folder, 0o777); err != nil {
			return err
		}
		if err := r.Start(); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			return fmt.Errorf("Start: %w, want %w", err, udsipc.ErrInvalidSocketPath)
		}
		if err := os.Chmod(folder, 0o700); err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		<-got
		return r.Stop(context.Background())
	}
}

// TestStartAgainAfterHandOver: a Start that failed has not lost the listener that it was left.
func TestStartAgainAfterHandOver(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	systemd.end(t, systemd.generation(t, "ADDRESS="+path, "LOG="+log.path), syscall.SIGUSR2)
	mustWrite(t, mustDial(t, path), frames("waited"))
	if output, err := systemd.service(t, "second try", "ADDRESS="+path).Output(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}
