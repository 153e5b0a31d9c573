// SPDX-License-Identifier: Apache-2.0

package torture_test

// What differs from the predecessor: each test is a row of docs/migrating/uds-ipc.md.

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// The predecessor's writer waits for nothing that is not connected, and its Stop returns nil.
func TestCompat_StopWithoutReader_ReportsMessages(t *testing.T) {
	var left []string
	w, err := udsipc.NewWriter(ipctest.SocketPath(t),
		udsipc.WithUndelivered(func(data []byte) { left = append(left, string(data)) }))
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	if err := w.WriteMessage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := w.Stop(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop returned %v, want the error of its context", err)
	}
	if !slices.Equal(left, []string{"hello"}) {
		t.Errorf("%q came back", left)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Errorf("a second Stop returned %v", err)
	}
	if err := w.WriteMessage([]byte("late")); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("WriteMessage after Stop returned %v", err)
	}
}

// The predecessor waits for a running handler and returns nil.
func TestCompat_ForcedReaderStop_LeavesHandler(t *testing.T) {
	path := ipctest.SocketPath(t)
	entered, leave, left := make(chan bool), make(chan bool), make(chan bool)
	r := ipctest.StartReader(t, func([]byte) error {
		entered <- true
		<-leave
		close(left)
		return nil
	}, path)
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("a message"))
	ipctest.Await(t, "the handler", entered)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := r.Stop(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop returned %v, want the error of its context", err)
	}
	close(leave)
	ipctest.AwaitOpen(t, "the handler's return", left)
}

func TestCompat_Metrics_CountMore(t *testing.T) {
	path := ipctest.SocketPath(t)
	handled := make(chan string, 10)
	r := ipctest.StartReader(t, func(data []byte) error {
		handled <- string(data)
		if string(data) == "bad" {
			return errors.New("no")
		}
		return nil
	}, path)
	w := ipctest.StartedWriter(t, path)
	for _, message := range []string{"", "good", "bad"} {
		if err := w.WriteMessage([]byte(message)); err != nil {
			t.Fatal(err)
		}
		if got := ipctest.Await(t, message, handled); got != message {
			t.Errorf("got %q, want %q", got, message)
		}
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if received, connections, errs := r.GetMetrics(); received != 3 || connections != 1 || errs != 1 {
		t.Errorf("%d received, %d connections, %d errors", received, connections, errs)
	}
}

// The queue is bounded by its bytes as well: 64 MiB for messages of 1 KiB are fewer than 100,000.
func TestCompat_MaxBufferedWrites_IsNotAllOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		opts      []udsipc.WriterOption
		size      int
		fit, want int
	}{
		"default":         {nil, 1 << 10, 10_000, 10_000},
		"default, 10 KiB": {nil, 10 << 10, 10_000, 6_552},
		"100,000":         {[]udsipc.WriterOption{udsipc.WithMaxBufferedWrites(100_000)}, 1 << 10, 100_000, 65_408},
		"100,000, 128 MiB": {[]udsipc.WriterOption{udsipc.WithMaxBufferedWrites(100_000),
			udsipc.WithMaxBufferedBytes(128 << 20)}, 1 << 10, 100_000, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := udsipc.NewWriter(ipctest.SocketPath(t), c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			message, n := make([]byte, c.size), 0
			for err == nil && n <= c.fit {
				if err = w.WriteMessage(message); err == nil {
					n++
				}
			}
			if n != c.want || !errors.Is(err, udsipc.ErrBufferFull) {
				t.Errorf("%d messages fit, want %d: %v", n, c.want, err)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			w.Stop(ended)
		})
	}
}

func TestCompat_ZeroAndLargeOptions_AreAccepted(t *testing.T) {
	handler := func([]byte) error { return nil }
	for name, opt := range map[string]udsipc.ReaderOption{
		"no read buffer":     udsipc.WithReadBufferSize(0),
		"no inactivity":      udsipc.WithInactivityTimeout(0),
		"many accept errors": udsipc.WithMaxAcceptErrors(64),
		"no callback":        udsipc.WithReaderErrorCallback(nil),
	} {
		if _, err := udsipc.NewReader(handler, ipctest.SocketPath(t), opt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, opt := range map[string]udsipc.WriterOption{
		"no write buffer": udsipc.WithWriteBufferSize(0),
		"no callback":     udsipc.WithWriterErrorCallback(nil),
	} {
		if _, err := udsipc.NewWriter(ipctest.SocketPath(t), opt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := udsipc.NewWriter(ipctest.SocketPath(t),
		udsipc.WithMaxBufferedWrites(0)); !errors.Is(err, udsipc.ErrInvalidBufferSize) {
		t.Errorf("a queue for no message: %v", err)
	}
}

// The predecessor's writer does not learn that a message is over the reader's limit.
func TestCompat_RejectedMessage_IsReported(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, func([]byte) error { return nil }, path, udsipc.WithMaxMessageSize(100))
	reported := ipctest.Collect()
	w, err := udsipc.NewWriter(path, udsipc.WithWriterErrorCallback(reported.Callback))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Start(), w.WriteMessage(make([]byte, 101))); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(t.Context()); err == nil {
		t.Error("Stop returned nil")
	}
	var loss *udsipc.PossibleLossError
	if err := reported.Want(t, udsipc.ErrMessageTooLarge); !errors.As(err, &loss) || loss.Messages != 1 {
		t.Errorf("reported: %v", err)
	}
}

// A read buffer of size 0 is the default: what is larger than any smallest buffer is read at once.
func TestCompat_ReadBufferSizeZero_IsDefault(t *testing.T) {
	path := ipctest.SocketPath(t)
	sizes := make(chan int, 1)
	ipctest.StartReader(t, func(data []byte) error { sizes <- len(data); return nil }, path, udsipc.WithReadBufferSize(0))
	if err := ipctest.StartedWriter(t, path).WriteMessage(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if size := ipctest.Await(t, "the message", sizes); size != 1<<20 {
		t.Errorf("%d bytes", size)
	}
}

// The predecessor listens in $RUNTIME_DIRECTORY whatever the path is, and does so in its constructor.
func TestCompat_RuntimeDirectory_DoesNotChangePath(t *testing.T) {
	path, elsewhere := ipctest.SocketPath(t), t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", elsewhere)
	r, err := udsipc.NewReader(func([]byte) error { return nil }, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the constructor listens")
	}
	ipctest.MustListenAt(t, r)
	defer r.Stop(context.Background())
	if got := r.Addr().String(); got != path {
		t.Errorf("it listens at %s, want %s", got, path)
	}
	if runtime.GOOS != "windows" { // There is no mode.
		ipctest.CheckMode(t, path, fs.ModeSocket|0o600)
	}
	if _, err := os.Lstat(filepath.Join(elsewhere, filepath.Base(path))); err == nil {
		t.Error("there is a socket in the runtime directory")
	}
}
