// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/systemd"
)

// TestHandOver_ReplacedSocketFile_IsError: a socket that was put in the place of the old one is not
// touched, and is an error.
func TestHandOver_ReplacedSocketFile_IsError(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	manager.End(t, manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path), syscall.SIGUSR2)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var output strings.Builder
	cmd := manager.Service(t, "collector", "ADDRESS="+path, "LOG="+log.Path)
	cmd.Stderr = &output
	if err := cmd.Run(); err == nil || !strings.Contains(output.String(), "socket is in use") {
		t.Errorf("%v: %s", err, output.String())
	}
	if ipctest.Lstat(t, path) == nil {
		t.Error("the other socket is gone")
	}
}

// TestHandOver_WrongDescriptorKind_IsReported: what has the name of a connection and is none is
// reported, and left alone.
func TestHandOver_WrongDescriptorKind_IsReported(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	for _, name := range []string{"plain", "listener.1.2.3", "memory"} {
		file, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		manager.Put(ipctest.StoredFile{Name: "udsipc-" + name + "-" + path, File: file})
	}
	var output strings.Builder
	cmd := manager.Service(t, "collector", "ADDRESS="+path, "LOG="+log.Path)
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	manager.Says(t, "READY=1")
	ipctest.Send(t, path, "hello")
	log.Want(t, "hello")
	manager.End(t, cmd, syscall.SIGTERM)
	if !strings.Contains(output.String(), "character device") {
		t.Error(output.String())
	}
}

// TestHandOver_StartFails_KeepsStoredDescriptors: the process after that one still finds everything.
func TestHandOver_StartFails_KeepsStoredDescriptors(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
	cmd := manager.Generation(t, environment...)
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
	log.Want(t, "hello")
	manager.End(t, cmd, syscall.SIGUSR2)
	ipctest.MustWrite(t, conn, ipctest.Frames("second"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	failing := manager.Service(t, "collector", environment...)
	failing.Stderr = nil
	if err := failing.Run(); err == nil {
		t.Error("the Reader has started")
	}
	l.Close()
	cmd = manager.Generation(t, environment...)
	log.Want(t, "hello", "second")
	manager.End(t, cmd, syscall.SIGTERM)
}

// TestHandOver_StoreTooSmall_ActsLikeStop becomes a Stop, whether the limit is known or not: no message is lost.
func TestHandOver_StoreTooSmall_ActsLikeStop(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "not known": false} {
		t.Run(name, func(t *testing.T) {
			const limit, connections = 6, 20
			manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
			manager.LimitTo(limit)
			t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
			if known {
				t.Setenv("FDSTORE", strconv.FormatInt(systemd.Slots()+limit, 10))
			}
			path := ipctest.SocketPath(t)
			errs := ipctest.Collect()
			var received atomic.Int64
			r := ipctest.StartReader(t, func([]byte) error { received.Add(1); return nil }, path,
				udsipc.WithReaderErrorCallback(errs.Callback))
			for range connections {
				ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x"))
			}
			ipctest.Until(t, "all are there", func() bool { return received.Load() == connections })
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			errs.Want(t, systemd.ErrStoreFull)
			m, names := r.Metrics(), manager.Names()
			if known && (m.HandedOver != limit-3 || len(names) != limit-1) || !known && m.HandedOver != 0 {
				t.Errorf("%d were handed over; %q are stored", m.HandedOver, names)
			}
			if !known {
				ipctest.Until(t, "all is forgotten", func() bool { return len(manager.Names()) == 0 })
				ipctest.CheckEmpty(t, filepath.Dir(path))
			}
			if known {
				return
			}
			next := ipctest.StartReader(t, ipctest.Ignore, path) // Nothing keeps it from that.
			ipctest.Stop(t, next)
		})
	}
}

// TestHandOver_ForeignDescriptors_AreLeftAlone in the store are the program's own.
func TestHandOver_ForeignDescriptors_AreLeftAlone(t *testing.T) {
	for _, name := range []string{"", "NAME=collector"} {
		manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
		file, err := os.CreateTemp(t.TempDir(), "state")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", path+"passed")
		if err != nil {
			t.Fatal(err)
		}
		manager.Put(ipctest.StoredFile{Name: "state", File: file})
		environment := []string{"ADDRESS=" + path, "LOG=" + log.Path}
		if name == "" {
			environment[0] += "unused"
			manager.Put(ipctest.StoredFile{Name: "udsipc-collector.socket", File: ipctest.FileOf(t, l.(*net.UnixListener))})
			path += "passed"
		} else {
			environment = append(environment, name)
		}
		cmd := manager.Generation(t, environment...)
		ipctest.Send(t, path, "hello")
		log.Want(t, "hello")
		manager.End(t, cmd, syscall.SIGTERM)
		l.Close()
	}
}

// TestPassedDescriptors_OtherName_CanBeClosed: connections that were left for a Reader of another name.
func TestPassedDescriptors_OtherName_CanBeClosed(t *testing.T) {
	manager, log, path := ipctest.FakeNotify(t, ipctest.SocketPath(t)), ipctest.NewServedLog(t), ipctest.SocketPath(t)
	cmd := manager.Generation(t, "ADDRESS="+path, "LOG="+log.Path, "NAME=old")
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Frames("hello"))
	log.Want(t, "hello")
	manager.End(t, cmd, syscall.SIGUSR2)
	cmd = manager.Generation(t, "ADDRESS="+ipctest.SocketPath(t), "LOG="+log.Path, "NAME=new", "CLOSE=yes")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is still open: %v", err)
	}
	log.Want(t, "hello", "listener.", "plain-old", "memory-ol")
	ipctest.Until(t, "nothing is stored any more", func() bool { return len(manager.Names()) == 0 })
	manager.End(t, cmd, syscall.SIGTERM)
}

// TestHandOver_Impossible_ActsLikeStop is a Stop, and says so.
func TestHandOver_Impossible_ActsLikeStop(t *testing.T) {
	path := ipctest.SocketPath(t)
	for name, test := range map[string]struct {
		prepare func(t *testing.T)
		address string
		opts    []udsipc.ReaderOption
	}{
		"no systemd":             {func(t *testing.T) { t.Setenv("NOTIFY_SOCKET", "") }, path, nil},
		"a systemd that is gone": {func(t *testing.T) { t.Setenv("NOTIFY_SOCKET", path+"-gone") }, path, nil},
		"WithoutSystemd":         {func(*testing.T) {}, path, []udsipc.ReaderOption{udsipc.WithoutSystemd()}},
		"a full store":           {func(t *testing.T) { t.Setenv("FDSTORE", "0") }, path, nil},
		"a name too long": {func(*testing.T) {}, path,
			[]udsipc.ReaderOption{udsipc.WithSystemdName(strings.Repeat("ä", 60))}},
	} {
		t.Run(name, func(t *testing.T) {
			manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
			t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
			test.prepare(t)
			errs := ipctest.Collect()
			got := make(chan string, 1)
			r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, test.address,
				append(test.opts, udsipc.WithReaderErrorCallback(errs.Callback))...)
			w := ipctest.StartWriter(t, path)
			ipctest.MustWriteMessage(t, w, "hello")
			ipctest.Await(t, "the message", got)
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			var op *udsipc.OpError
			if err := ipctest.Await(t, "a report", errs.Events); !errors.As(err, &op) {
				t.Error(err)
			} else if name != "a systemd that is gone" && op.Op != udsipc.OpHandOver {
				t.Error(err)
			}
			if len(manager.Names()) != 0 {
				t.Errorf("%q are stored", manager.Names())
			}
			ipctest.CheckEmpty(t, filepath.Dir(path))
			if m := r.Metrics(); m.Connections != 0 || m.HandedOver != 0 {
				t.Errorf("%+v", m)
			}
			if err := r.HandOver(t.Context()); err != nil { // Again.
				t.Error(err)
			}
		})
	}
}

// TestHandOver_TLS_ClosesGracefully gracefully: its keys live in the process.
func TestHandOver_TLS_ClosesGracefully(t *testing.T) {
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	server, client := ipctest.NewAuthority(t).Configs(t)
	path, errs := ipctest.SocketPath(t), ipctest.Collect()
	got := make(chan string, 10)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path,
		udsipc.WithTLS(server), udsipc.WithReaderErrorCallback(errs.Callback))
	w := ipctest.StartWriter(t, path, udsipc.WithTLS(client))
	ipctest.MustWriteMessage(t, w, "hello")
	ipctest.Await(t, "the message", got)
	if err := r.HandOver(t.Context()); err != nil {
		t.Error(err)
	}
	if err := ipctest.Await(t, "a report", errs.Events); !strings.Contains(err.Error(), "TLS") {
		t.Error(err)
	}
	if m := r.Metrics(); m.HandedOver != 0 || len(manager.Names()) != 2 {
		t.Errorf("%q are stored: %+v", manager.Names(), m)
	}
	ipctest.Until(t, "the Writer has noticed", func() bool { return w.Metrics().LostConnections == 1 })
	if m := w.Metrics(); m.PossiblyLost != 0 {
		t.Errorf("%+v", m)
	}
}

// TestHandOver_HungHandler_ReturnsWithContext although a handler is stuck.
func TestHandOver_HungHandler_ReturnsWithContext(t *testing.T) {
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	path, release, entered := ipctest.SocketPath(t), make(chan struct{}), make(chan struct{})
	r := ipctest.StartReader(t, func([]byte) error { close(entered); <-release; return nil }, path)
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("hello"))
	ipctest.Await(t, "the handler", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.HandOver(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	close(release)
}
