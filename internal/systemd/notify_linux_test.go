// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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

func TestNotify_Reader_SendsReadyStatusStopping(t *testing.T) {
	for name, address := range map[string]string{"path": ipctest.SocketPath(t), "abstract name": ipctest.AbstractName(t)} {
		t.Run(name, func(t *testing.T) {
			systemd := ipctest.FakeNotify(t, address)
			t.Setenv("NOTIFY_SOCKET", address)
			path := ipctest.SocketPath(t)
			entered, release := make(chan struct{}), make(chan struct{})
			r := ipctest.StartReader(t, func(data []byte) error {
				if string(data) == "wait" {
					close(entered)
					<-release
				}
				return nil
			}, path, udsipc.WithStatusInterval(100*time.Millisecond))
			systemd.Says(t, "READY=1")
			if got := systemd.Says(t, "STATUS="); got != "STATUS=0 connections, 0 messages/s, 0 B waiting" {
				t.Errorf("%q", got)
			}
			w := ipctest.StartWriter(t, path)
			ipctest.MustWriteMessage(t, w, "hello")
			systemd.Says(t, "STATUS=1 connection, ")
			ipctest.Stop(t, w)
			checkFigures(t, systemd, path, entered, release)
			ipctest.Stop(t, r)
			systemd.Says(t, "STOPPING=1")
		})
	}
}

// checkFigures has a handler wait, so that bytes do, and then go on, so that there is a rate.
func checkFigures(t *testing.T, systemd *ipctest.FakeSystemd, path string, entered, release chan struct{}) {
	t.Helper()
	conn := ipctest.MustDial(t, path)
	defer conn.Close()
	ipctest.MustWrite(t, conn, ipctest.Frames("wait"))
	ipctest.Await(t, "the handler", entered)
	ipctest.MustWrite(t, conn, bytes.Repeat(ipctest.Frames("x"), 5000)) // It is not read before the handler returns.
	saysStatus(t, systemd, func(status string) bool { return strings.HasSuffix(status, "10.0 kB waiting") })
	close(release)
	saysStatus(t, systemd, func(status string) bool { return !strings.Contains(status, " 0 messages/s") })
}

// saysStatus waits until a status is as wanted, for 300 of them at most, which is half a minute.
func saysStatus(t *testing.T, systemd *ipctest.FakeSystemd, wanted func(status string) bool) {
	t.Helper()
	status := ""
	for range 300 {
		if status = systemd.Says(t, "STATUS="); wanted(status) {
			return
		}
	}
	t.Fatalf("the last of 300 is %q", status)
}

func TestNotify_WithoutNotifySocket_SendsNothing(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	for name, opt := range map[string]udsipc.ReaderOption{
		"WithoutSystemd": udsipc.WithoutSystemd(), "WithoutNotifications": udsipc.WithoutNotifications(),
	} {
		t.Run(name, func(t *testing.T) {
			ipctest.Stop(t, ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t), opt))
			systemd.Silent(t, "", 10*time.Millisecond)
		})
	}
	t.Run("WithoutReady", func(t *testing.T) {
		r := ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t), udsipc.WithoutReady())
		systemd.Says(t, "STATUS=")
		systemd.Silent(t, "READY=", 10*time.Millisecond)
		if err := udsipc.Notify("READY=1", "STATUS=mine"); err != nil {
			t.Fatal(err)
		}
		systemd.Says(t, "READY=1\nSTATUS=mine")
		ipctest.Stop(t, r)
		systemd.Says(t, "STOPPING=1")
	})
}

// TestNotify_LastReader_SendsStopping: the service goes on while one of its Readers does.
func TestNotify_LastReader_SendsStopping(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	one, two := ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t)),
		ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t))
	ipctest.Stop(t, one)
	systemd.Silent(t, "STOPPING=1", 20*time.Millisecond)
	ipctest.Stop(t, two)
	systemd.Says(t, "STOPPING=1")
}

func TestNotify_Reloading_SendsMonotonicTime(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	before := monotonic(t)
	if err := udsipc.NotifyReloading(); err != nil {
		t.Fatal(err)
	}
	text, found := strings.CutPrefix(systemd.Says(t, "RELOADING=1"), "RELOADING=1\nMONOTONIC_USEC=")
	now, err := strconv.ParseInt(text, 10, 64)
	if after := monotonic(t); !found || err != nil || now < before || now > after {
		t.Errorf("MONOTONIC_USEC is %q, want %d to %d", text, before, after)
	}
}

// monotonic is the time of CLOCK_MONOTONIC in microseconds, as the kernel shows it for its timers.
func monotonic(tb testing.TB) int64 {
	tb.Helper()
	list, err := os.ReadFile("/proc/timer_list")
	if err != nil {
		tb.Skip(err)
	}
	for line := range strings.SplitSeq(string(list), "\n") {
		var nsec int64
		if n, _ := fmt.Sscanf(line, "now at %d nsecs", &nsec); n == 1 {
			return nsec / 1000
		}
	}
	tb.Skip("/proc/timer_list does not say the time")
	return 0
}

func TestNotify_InvalidState_IsError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := udsipc.Notify("READY=1"); err != nil {
		t.Errorf("nobody asked: %v", err)
	}
	for _, state := range []string{"READY", "=1", "STATUS=two\nlines"} {
		if err := udsipc.Notify(state); err == nil || !strings.Contains(err.Error(), strconv.Quote(state)) {
			t.Errorf("%q: %v", state, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1234")
	if err := udsipc.Notify("READY=1"); err == nil || !strings.Contains(err.Error(), "vsock:2:1234") {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", ipctest.SocketPath(t))
	if err := udsipc.Notify("READY=1"); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
}

// TestNotify_SendFails_ReportsOnce: it is reported once, and stops nothing.
func TestNotify_SendFails_ReportsOnce(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", ipctest.SocketPath(t))
	t.Setenv("WATCHDOG_USEC", "nonsense")
	errs, path := ipctest.Collect(), ipctest.SocketPath(t)
	got := make(chan string, 1)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path,
		udsipc.WithReaderErrorCallback(errs.Callback), udsipc.WithStatusInterval(100*time.Millisecond))
	if err := errs.Want(t, syscall.ENOENT); !strings.Contains(err.Error(), udsipc.OpNotify) {
		t.Error(err)
	}
	ipctest.Send(t, path, "hello")
	if text := ipctest.Await(t, "the message", got); text != "hello" {
		t.Error(text)
	}
	ipctest.Stop(t, r)
	if n := r.Metrics().Errors; n != 2 { // The watchdog's variable as well.
		t.Errorf("%d errors were reported, want 2", n)
	}
}

// TestNotify_StopDuringStart_Unregisters: a Reader that is stopped before it has said that it is ready is forgotten.
func TestNotify_StopDuringStart_Unregisters(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "nonsense")
	var r *udsipc.Reader
	r, err := udsipc.NewReader(ipctest.Ignore, ipctest.SocketPath(t), udsipc.WithReaderErrorCallback(func(error, string) {
		_ = r.Stop(t.Context()) // In the middle of Start.
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Error(err)
	}
	ipctest.Await(t, "the end", r.Done())
	systemd.Says(t, "STOPPING=1")
	systemd.Silent(t, "READY=1", 50*time.Millisecond)
}

func TestNotify_AcceptFails_SendsErrno(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	l := &ipctest.FailingListener{Listener: ipctest.ListenInMemory(), Errs: make(chan error, 1)}
	l.Errs <- os.NewSyscallError("accept", syscall.EPERM)
	r := ipctest.StartReader(t, ipctest.Ignore, "memory", udsipc.WithMaxAcceptErrors(0), udsipc.WithListener(l))
	ipctest.Await(t, "the end of the Reader", r.Done())
	if got := systemd.Says(t, "STATUS=giving up"); !strings.HasSuffix(got, fmt.Sprintf("\nERRNO=%d", syscall.EPERM)) {
		t.Errorf("%q", got)
	}
}

func TestWatchdog_HungHandler_StopsPings(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Run("another process", func(t *testing.T) {
		t.Setenv("WATCHDOG_PID", "1")
		r := ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t))
		systemd.Silent(t, "WATCHDOG=", 100*time.Millisecond)
		ipctest.Stop(t, r)
	})
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Run("a stuck handler", func(t *testing.T) {
		errs, path := ipctest.Collect(), ipctest.SocketPath(t)
		var hung atomic.Int32 // Reports of the handler. On a busy machine there may be one of the accept loop.
		report := func(err error, where string) {
			if strings.Contains(err.Error(), "WithHungTimeout") {
				hung.Add(1)
			}
			errs.Callback(err, where)
		}
		release := make(chan struct{})
		entered := make(chan struct{})
		r := ipctest.StartReader(t, func(data []byte) error {
			if string(data) == "stuck" {
				close(entered)
				<-release
			}
			return nil
		}, path, udsipc.WithReaderErrorCallback(report), udsipc.WithHungTimeout(20*time.Millisecond))
		for range 3 {
			systemd.Says(t, "WATCHDOG=1")
		}
		ipctest.Send(t, path, "hello") // The knocking does not keep anybody out.
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("stuck"))
		ipctest.Await(t, "the handler", entered)
		ipctest.Until(t, "the handler is reported", func() bool { return hung.Load() > 0 })
		errs.Want(t, udsipc.ErrHung)
		systemd.Drain(t)
		systemd.Silent(t, "WATCHDOG=", 200*time.Millisecond)
		close(release)
		systemd.Says(t, "WATCHDOG=1")
		ipctest.Stop(t, r)
		if n := hung.Load(); n != 1 {
			t.Errorf("the handler was reported %d times, want one", n)
		}
	})
	t.Run("a handler without a limit", func(t *testing.T) {
		errs, path := ipctest.Collect(), ipctest.SocketPath(t)
		release, entered := make(chan struct{}), make(chan struct{})
		r := ipctest.StartReader(t, func([]byte) error {
			close(entered)
			<-release
			return nil
		}, path, udsipc.WithReaderErrorCallback(errs.Callback), udsipc.WithHungTimeout(-1))
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("waits"))
		ipctest.Await(t, "the handler", entered)
		systemd.Drain(t)
		for range 8 { // Twice as long as the interval lasts.
			systemd.Says(t, "WATCHDOG=1")
		}
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(context.Background()) }() // Ends with the Reader.
		systemd.Says(t, "EXTEND_TIMEOUT_USEC=10040000")         // A stop has a limit nevertheless.
		close(release)
		if err := ipctest.Await(t, "the end", stopped); err != nil {
			t.Error(err)
		}
		errs.None(t, udsipc.ErrHung)
	})
	t.Run("a listener that hangs", func(t *testing.T) {
		errs := ipctest.Collect()
		l := &deafListener{MemoryListener: ipctest.ListenInMemory()}
		ipctest.StartReader(t, ipctest.Ignore, "memory", udsipc.WithListener(l),
			udsipc.WithReaderErrorCallback(errs.Callback))
		if err := errs.Want(t, udsipc.ErrHung); !strings.Contains(err.Error(), "accept loop") {
			t.Error(err)
		}
		systemd.Silent(t, "WATCHDOG=", 100*time.Millisecond)
		l.Close() // Else Stop would wait for it.
	})
}

// A deafListener does not hear of a deadline.
type deafListener struct{ *ipctest.MemoryListener }

func (*deafListener) SetDeadline(time.Time) error { return nil }

// TestWatchdog_RedeliveryPause_IsNotHung: a message that is offered again is no handler that is stuck.
func TestWatchdog_RedeliveryPause_IsNotHung(t *testing.T) {
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "40000")
	errs, path := ipctest.Collect(), ipctest.SocketPath(t)
	r := ipctest.StartReader(t, func([]byte) error { return errors.New("not yet") }, path,
		udsipc.WithReaderErrorCallback(errs.Callback), udsipc.WithHungTimeout(5*time.Millisecond))
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
	ipctest.MustWriteMessage(t, w, "hello")
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	systemd.Says(t, "WATCHDOG=1")
	ipctest.Stop(t, w)
	ipctest.Stop(t, r)
	errs.None(t, udsipc.ErrHung)
}

// TestNotify_LongStop_ExtendsTimeout: as long as it gets on, and no longer.
func TestNotify_LongStop_ExtendsTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	systemd := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.Conn.LocalAddr().String())
	path := ipctest.SocketPath(t)
	next := make(chan struct{})
	began := make(chan struct{}, 1)
	r := ipctest.StartReader(t, func([]byte) error {
		began <- struct{}{}
		<-next
		return nil
	}, path, udsipc.WithStatusInterval(100*time.Millisecond), udsipc.WithHungTimeout(15*time.Second))
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("1", "2"))
	ipctest.Await(t, "the first message", began)
	done := make(chan error, 1)
	go func() { done <- r.Stop(context.Background()) }() // Ends with the Reader.
	systemd.Says(t, "STOPPING=1")
	systemd.Says(t, "EXTEND_TIMEOUT_USEC=25000000")     // What a handler may take, and 10 s.
	systemd.Silent(t, "EXTEND_", 1100*time.Millisecond) // Nothing gets on.
	next <- struct{}{}
	ipctest.Await(t, "the second message", began)
	systemd.Says(t, "EXTEND_TIMEOUT_USEC=25000000")
	next <- struct{}{}
	if err := ipctest.Await(t, "the end", done); err != nil {
		t.Error(err)
	}
}

func TestWatchdog_Variables_Parse(t *testing.T) {
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
		says      string
	}{
		{"", "", 0, ""},
		{"", "42", 0, ""},
		{"30000000", "", 30 * time.Second, ""},
		{"30000000", "42", 30 * time.Second, ""},
		{"30000000", "41", 0, ""},
		{"30000000", "init", 0, "WATCHDOG_PID"},
		{"30000000", "-1", 0, "WATCHDOG_PID"},
		{"0", "", 0, "WATCHDOG_USEC"},
		{"soon", "", 0, "WATCHDOG_USEC"},
		{"18446744073709551615", "", 0, "WATCHDOG_USEC"},
	} {
		got, err := systemd.ParseWatchdog(42, test.usec, test.pid)
		if got != test.want || (test.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q, %q: %v, %v", test.usec, test.pid, got, err)
		}
	}
}

// TestNotify_UnreadSocket_DoesNotBlock: the kernel keeps a few messages, and that is enough for a start and a stop.
func TestNotify_UnreadSocket_DoesNotBlock(t *testing.T) {
	path := ipctest.SocketPath(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ipctest.Stop(t, ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t)))
}

// TestNotify_FullSocket_WaitsForRoom: messages come when systemd receives again, in their order.
func TestNotify_FullSocket_WaitsForRoom(t *testing.T) {
	path := ipctest.SocketPath(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	const messages = 1000 // More than any queue of datagrams (net.unix.max_dgram_qlen).
	sent := make(chan error, messages)
	go func() { // Ends with its messages.
		for n := range messages {
			sent <- systemd.Notify(fmt.Sprint("STATUS=", n))
		}
	}()
	for range 5 {
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	for n := range messages {
		length, err := conn.Read(buf)
		if want := fmt.Sprint("STATUS=", n); err != nil || string(buf[:length]) != want {
			t.Fatalf("%q, %v: want %q", buf[:length], err, want)
		}
	}
	for range messages - 5 {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}
