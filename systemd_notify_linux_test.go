// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func TestNotification(t *testing.T) {
	for name, address := range map[string]string{"path": socketPath(t), "abstract name": abstractName(t)} {
		t.Run(name, func(t *testing.T) {
			systemd := fakeNotify(t, address)
			t.Setenv("NOTIFY_SOCKET", address)
			path := socketPath(t)
			release := make(chan struct{})
			r := startReader(t, func(data []byte) error {
				if string(data) == "wait" {
					<-release
				}
				return nil
			}, path, udsipc.WithStatusInterval(100*time.Millisecond))
			systemd.says(t, "READY=1")
			if got := systemd.says(t, "STATUS="); got != "STATUS=0 connections, 0 messages/s, 0 B waiting" {
				t.Errorf("%q", got)
			}
			w := startWriter(t, path)
			mustWriteMessage(t, w, "hello")
			systemd.says(t, "STATUS=1 connection, ")
			stop(t, w)
			checkFigures(t, systemd, path, release)
			stop(t, r)
			systemd.says(t, "STOPPING=1")
		})
	}
}

// checkFigures has a handler wait, so that bytes do, and then go on, so that there is a rate.
func checkFigures(t *testing.T, systemd *fakeSystemd, path string, release chan struct{}) {
	t.Helper()
	conn := mustDial(t, path)
	defer conn.Close()
	mustWrite(t, conn, frames("wait"))
	time.Sleep(20 * time.Millisecond)
	mustWrite(t, conn, bytes.Repeat(frames("x"), 5000)) // It is not read before the handler returns.
	for !strings.HasSuffix(systemd.says(t, "STATUS="), "10.0 kB waiting") {
	}
	close(release)
	for strings.Contains(systemd.says(t, "STATUS="), " 0 messages/s") {
	}
}

func TestNothingIsSaidUnlessAskedFor(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	for name, opt := range map[string]udsipc.ReaderOption{
		"WithoutSystemd": udsipc.WithoutSystemd(), "WithoutNotifications": udsipc.WithoutNotifications(),
	} {
		t.Run(name, func(t *testing.T) {
			stop(t, startReader(t, ignore, socketPath(t), opt))
			systemd.silent(t, "", 10*time.Millisecond)
		})
	}
	t.Run("WithoutReady", func(t *testing.T) {
		r := startReader(t, ignore, socketPath(t), udsipc.WithoutReady())
		systemd.says(t, "STATUS=")
		systemd.silent(t, "READY=", 10*time.Millisecond)
		if err := udsipc.Notify("READY=1", "STATUS=mine"); err != nil {
			t.Fatal(err)
		}
		systemd.says(t, "READY=1\nSTATUS=mine")
		stop(t, r)
		systemd.says(t, "STOPPING=1")
	})
}

// TestTheLastReaderSaysStopping: the service goes on while one of its Readers does.
func TestTheLastReaderSaysStopping(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	one, two := startReader(t, ignore, socketPath(t)), startReader(t, ignore, socketPath(t))
	stop(t, one)
	systemd.silent(t, "STOPPING=1", 20*time.Millisecond)
	stop(t, two)
	systemd.says(t, "STOPPING=1")
}

func TestReloading(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	before := monotonic(t)
	if err := udsipc.NotifyReloading(); err != nil {
		t.Fatal(err)
	}
	text, found := strings.CutPrefix(systemd.says(t, "RELOADING=1"), "RELOADING=1\nMONOTONIC_USEC=")
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

func TestNotifyErrors(t *testing.T) {
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
	t.Setenv("NOTIFY_SOCKET", socketPath(t))
	if err := udsipc.Notify("READY=1"); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
}

// TestNotificationFails: it is reported once, and stops nothing.
func TestNotificationFails(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", socketPath(t))
	t.Setenv("WATCHDOG_USEC", "nonsense")
	errs, path := collect(), socketPath(t)
	got := make(chan string, 1)
	r := startReader(t, func(data []byte) error { got <- string(data); return nil }, path,
		udsipc.WithReaderErrorCallback(errs.callback), udsipc.WithStatusInterval(100*time.Millisecond))
	if err := errs.want(t, syscall.ENOENT); !strings.Contains(err.Error(), udsipc.OpNotify) {
		t.Error(err)
	}
	send(t, path, "hello")
	if text := await(t, "the message", got); text != "hello" {
		t.Error(text)
	}
	stop(t, r)
	if n := r.Metrics().Errors; n != 2 { // The watchdog's variable as well.
		t.Errorf("%d errors were reported, want 2", n)
	}
}

// TestStopWhileStarting: a Reader that is stopped before it has said that it is ready is forgotten.
func TestStopWhileStarting(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "nonsense")
	var r *udsipc.Reader
	r, err := udsipc.NewReader(ignore, socketPath(t), udsipc.WithReaderErrorCallback(func(error, string) {
		_ = r.Stop(t.Context()) // In the middle of Start.
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Error(err)
	}
	await(t, "the end", r.Done())
	systemd.says(t, "STOPPING=1")
	systemd.silent(t, "READY=1", 50*time.Millisecond)
}

func TestErrnoIsSaid(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	l := &failingListener{Listener: listenInMemory(), errs: make(chan error, 1)}
	l.errs <- os.NewSyscallError("accept", syscall.EPERM)
	r := startReader(t, ignore, "memory", udsipc.WithMaxAcceptErrors(0), udsipc.WithListener(l))
	await(t, "the end of the Reader", r.Done())
	if got := systemd.says(t, "STATUS=giving up"); !strings.HasSuffix(got, fmt.Sprintf("\nERRNO=%d", syscall.EPERM)) {
		t.Errorf("%q", got)
	}
}

func TestWatchdog(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Run("another process", func(t *testing.T) {
		t.Setenv("WATCHDOG_PID", "1")
		r := startReader(t, ignore, socketPath(t))
		systemd.silent(t, "WATCHDOG=", 100*time.Millisecond)
		stop(t, r)
	})
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Run("a stuck handler", func(t *testing.T) {
		errs, path := collect(), socketPath(t)
		release := make(chan struct{})
		entered := make(chan struct{})
		r := startReader(t, func(data []byte) error {
			if string(data) == "stuck" {
				close(entered)
				<-release
			}
			return nil
		}, path, udsipc.WithReaderErrorCallback(errs.callback), udsipc.WithHungTimeout(20*time.Millisecond))
		for range 3 {
			systemd.says(t, "WATCHDOG=1")
		}
		send(t, path, "hello") // The knocking does not keep anybody out.
		mustWrite(t, mustDial(t, path), frames("stuck"))
		await(t, "the handler", entered)
		errs.want(t, udsipc.ErrHung)
		systemd.drain()
		systemd.silent(t, "WATCHDOG=", 200*time.Millisecond)
		close(release)
		systemd.says(t, "WATCHDOG=1")
		stop(t, r)
		if n := r.Metrics().Errors; n != 1 {
			t.Errorf("%d errors were reported, want one", n)
		}
	})
	t.Run("a listener that hangs", func(t *testing.T) {
		errs := collect()
		l := &deafListener{memoryListener: listenInMemory()}
		startReader(t, ignore, "memory", udsipc.WithListener(l), udsipc.WithReaderErrorCallback(errs.callback))
		if err := errs.want(t, udsipc.ErrHung); !strings.Contains(err.Error(), "accepts") {
			t.Error(err)
		}
		systemd.silent(t, "WATCHDOG=", 100*time.Millisecond)
		l.Close() // Else Stop would wait for it.
	})
}

// A deafListener does not hear of a deadline.
type deafListener struct{ *memoryListener }

func (*deafListener) SetDeadline(time.Time) error { return nil }

// TestWatchdogWhileARedeliveryPauses: a message that is offered again is no handler that is stuck.
func TestWatchdogWhileARedeliveryPauses(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "40000")
	errs, path := collect(), socketPath(t)
	r := startReader(t, func([]byte) error { return errors.New("not yet") }, path,
		udsipc.WithReaderErrorCallback(errs.callback), udsipc.WithHungTimeout(5*time.Millisecond))
	w := startWriter(t, path, udsipc.WithAcknowledgements())
	mustWriteMessage(t, w, "hello")
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	systemd.says(t, "WATCHDOG=1")
	stop(t, w)
	stop(t, r)
	errs.none(t, udsipc.ErrHung)
}

// TestLongStopAsksForTime: as long as it gets on, and no longer.
func TestLongStopAsksForTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	path := socketPath(t)
	next := make(chan struct{})
	began := make(chan struct{}, 1)
	r := startReader(t, func([]byte) error {
		began <- struct{}{}
		<-next
		return nil
	}, path, udsipc.WithStatusInterval(100*time.Millisecond), udsipc.WithHungTimeout(15*time.Second))
	mustWrite(t, mustDial(t, path), frames("1", "2"))
	await(t, "the first message", began)
	done := make(chan error, 1)
	go func() { done <- r.Stop(context.Background()) }() // Ends with the Reader.
	systemd.says(t, "STOPPING=1")
	systemd.says(t, "EXTEND_TIMEOUT_USEC=25000000")     // What a handler may take, and 10 s.
	systemd.silent(t, "EXTEND_", 1100*time.Millisecond) // Nothing gets on.
	next <- struct{}{}
	await(t, "the second message", began)
	systemd.says(t, "EXTEND_TIMEOUT_USEC=25000000")
	next <- struct{}{}
	if err := await(t, "the end", done); err != nil {
		t.Error(err)
	}
}

func TestParseWatchdog(t *testing.T) {
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
		got, err := udsipc.ParseWatchdog(42, test.usec, test.pid)
		if got != test.want || (test.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q, %q: %v, %v", test.usec, test.pid, got, err)
		}
	}
}

// TestNotifySocketThatNobodyReads: the kernel keeps a few messages, and that is enough for a start and a stop.
func TestNotifySocketThatNobodyReads(t *testing.T) {
	path := socketPath(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	stop(t, startReader(t, ignore, socketPath(t)))
}
