// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A numberedReader notes the number of each message that it handles, and a star if it is redelivered.
type numberedReader struct {
	mu  sync.Mutex
	got []string
}

func (r *numberedReader) handle(_ context.Context, d *udsipc.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf("%d=%s", d.Seq, d.Data)
	if d.Redelivered {
		text += "*"
	}
	r.got = append(r.got, text)
	return nil
}

func (r *numberedReader) start(t *testing.T, path string) *udsipc.Reader {
	t.Helper()
	reader, err := udsipc.NewDeliveryReader(r.handle, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, reader) })
	return reader
}

// wants checks what was handled since the last call.
func (r *numberedReader) wants(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.got, " "); got != strings.Join(want, " ") {
		t.Errorf("handled are %s, want %s", got, strings.Join(want, " "))
	}
	r.got = nil
}

var testIdentity = udsipc.WriterID{1, 2, 3}

// resumedWriter returns a Writer that has opened its first session, and wants handled to be this number then.
func resumedWriter(t *testing.T, path string, first, sent, attempt, handled uint64) *udsipc.Writer {
	t.Helper()
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithIdentity(udsipc.Identity{
		Writer: testIdentity, First: first, Sent: sent, Attempt: attempt,
	}))
	if err := w.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, known := w.Handled(); n != handled || !known {
		t.Errorf("handled is %d, %v; want %d", n, known, handled)
	}
	return w
}

// TestWriter_WithIdentity_GoesOn over processes: in order, after a loss, with an older copy, and with a
// reader that knows nothing.
func TestWriter_WithIdentity_GoesOn(t *testing.T) {
	path, r := ipctest.SocketPath(t), &numberedReader{}
	reader := r.start(t, path)
	run := func(first, sent, attempt, handled uint64, messages ...string) {
		t.Helper()
		w := resumedWriter(t, path, first, sent, attempt, handled)
		for _, message := range messages {
			ipctest.MustWriteMessage(t, w, message)
		}
		ipctest.Stop(t, w)
	}
	run(1, 0, 1<<32, 0, "a", "b", "c")
	r.wants(t, "1=a", "2=b", "3=c")
	run(1, 5, 2<<32, 3, "d") // It does not know what was handled.
	r.wants(t, "4=d")
	run(10, 9, 3<<32, 9, "j") // Messages 5 to 9 are missing.
	r.wants(t, "10=j")
	run(5, 6, 4<<32, 10) // It comes back with an older copy, and is told.
	run(2, 1, 5<<32, 10) // It has lost its tail.
	r.wants(t)

	ipctest.Stop(t, reader)
	r.start(t, path)
	run(4, 5, 6<<32, 3, "d", "e", "f") // The reader has forgotten.
	r.wants(t, "4=d*", "5=e*", "6=f")
}

// TestWriter_Identity_IsThatOfTheNext: of a new Writer, and of those that go on after it.
func TestWriter_Identity_IsThatOfTheNext(t *testing.T) {
	path, r := ipctest.SocketPath(t), &numberedReader{}
	r.start(t, path)
	if id := ipctest.NewWriter(t, path).Identity(); id != (udsipc.Identity{}) {
		t.Errorf("%+v without acknowledgements", id)
	}
	opts := []udsipc.WriterOption{udsipc.WithAcknowledgements()}
	for n := range uint64(3) {
		w := ipctest.StartWriter(t, path, opts...)
		ipctest.MustWriteMessage(t, w, "a")
		ipctest.MustWriteMessage(t, w, "b")
		ipctest.Stop(t, w)
		id := w.Identity()
		if want := (udsipc.Identity{Writer: id.Writer, First: 2*n + 3, Sent: 2*n + 2, Attempt: n + 2}); id != want {
			t.Errorf("%+v, want %+v", id, want)
		}
		opts = append(opts[:1:1], udsipc.WithIdentity(id))
	}
	r.wants(t, "1=a", "2=b", "3=a", "4=b", "5=a", "6=b")
}

// TestWriter_WithSmallerAttempt_IsRefused: a Writer with the same identity has connected since.
func TestWriter_WithSmallerAttempt_IsRefused(t *testing.T) {
	path, r := ipctest.SocketPath(t), &numberedReader{}
	r.start(t, path)
	resumedWriter(t, path, 1, 0, 100, 0)
	refused := make(chan error, 10)
	ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithIdentity(udsipc.Identity{
		Writer: testIdentity, First: 1, Attempt: 99,
	}), udsipc.WithWriterErrorCallback(func(err error, _ string) {
		select {
		case refused <- err:
		default:
		}
	}))
	if err := <-refused; !strings.Contains(err.Error(), "a newer connection exists") {
		t.Error(err)
	}
}

// TestNewWriter_InvalidIdentity_IsAnError that names the field.
func TestNewWriter_InvalidIdentity_IsAnError(t *testing.T) {
	good := udsipc.Identity{Writer: testIdentity, First: 1, Attempt: 1}
	for want, change := range map[string]func(*udsipc.Identity){
		"Writer is zero": func(id *udsipc.Identity) { id.Writer = udsipc.WriterID{} },
		"First is 0":     func(id *udsipc.Identity) { id.First = 0 },
		"First is 9223372036854775808: want 1 to 2^63-1": func(id *udsipc.Identity) {
			id.First, id.Sent = math.MaxInt64+1, math.MaxInt64+1
		},
		"Sent is 3: want 4, which is First-1": func(id *udsipc.Identity) { id.First, id.Sent = 5, 3 },
		"Sent is 18446744073709551615":        func(id *udsipc.Identity) { id.Sent = math.MaxUint64 },
		"Attempt is 0":                        func(id *udsipc.Identity) { id.Attempt = 0 },
		"Attempt is 9223372036854775808":      func(id *udsipc.Identity) { id.Attempt = math.MaxInt64 + 1 },
	} {
		id := good
		change(&id)
		_, err := udsipc.NewWriter("/x", udsipc.WithAcknowledgements(), udsipc.WithIdentity(id))
		if err == nil || !strings.Contains(err.Error(), "WithIdentity: "+want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, option := range []udsipc.WriterOption{udsipc.WithIdentity(good), udsipc.WithHandled(func(uint64) {})} {
		_, err := udsipc.NewWriter("/x", option)
		if err == nil || !strings.Contains(err.Error(), "needs WithAcknowledgements") {
			t.Errorf("%v", err)
		}
	}
}

// TestWriter_WithHandled_TellsEachNumberOnce, in order, the last one before Stop returns: of messages that
// the loop writes, that producers write, and that are lent.
func TestWriter_WithHandled_TellsEachNumberOnce(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		on.StartReader(t, func([]byte) error { return nil })
		for size, messages := range map[int]uint64{7: 20_000, 4 << 10: 5000, 100 << 10: 300} {
			var calls, last uint64
			w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
				udsipc.WithHandled(func(number uint64) {
					if calls++; number <= last || number > messages {
						t.Errorf("message %d after %d", number, last)
					}
					last = number
				}))
			data := make([]byte, size)
			for range messages {
				if err := w.WriteMessage(data); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, known := w.Handled(); n != messages || !known {
				t.Errorf("handled is %d, %v", n, known)
			}
			ipctest.Stop(t, w)
			if last != messages {
				t.Errorf("%d bytes: the last of %d calls is of message %d, want %d", size, calls, last, messages)
			}
		}
	})
}
