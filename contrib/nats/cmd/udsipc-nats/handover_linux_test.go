// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestDaemon_HandOver_KeepsConnections: processes follow one another under a Writer at full speed, which does
// not notice, and the stream has each message once.
func TestDaemon_HandOver_KeepsConnections(t *testing.T) {
	s := supervise(t, "UDSIPC_NATS_PREFIX=events", "UDSIPC_NATS_STOP_TIMEOUT=1m")
	_, stream := s.stream(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true})
	manager := ipctest.FakeNotify(t, filepath.Join(s.dir, "systemd"))
	next := func() *exec.Cmd {
		cmd := manager.Service(t, "", s.env...)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, file := range cmd.ExtraFiles {
			file.Close()
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // No effect if it has ended.
		manager.Says(t, "READY=1")
		return cmd
	}
	cmd := next()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := udsipc.NewWriter(s.address(), udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithMaxBufferedWrites(1000))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sent, end, ended := uint64(0), make(chan struct{}), make(chan struct{})
	go func() { // Ends with end.
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			if err := w.WriteMessageContext(ctx, fmt.Append(nil, sent)); err != nil {
				t.Error(err)
				return
			}
			sent++
		}
	}()
	for range 3 {
		want := w.Metrics().Acknowledged + 1000
		s.until("progress", func() bool { return w.Metrics().Acknowledged >= want })
		manager.End(t, cmd, syscall.SIGUSR2)
		cmd = next()
	}
	close(end)
	<-ended
	if err := w.Stop(ctx); err != nil {
		t.Error(err)
	}
	manager.End(t, cmd, syscall.SIGTERM)
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs != sent || w.Metrics().Connections != 1 {
		t.Errorf("%+v, %v, %d connections: want %d messages, 1 connection", info, err, w.Metrics().Connections, sent)
	}
}
