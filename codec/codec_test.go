// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
)

type event struct {
	Name  string
	Count int
	Tags  []string
}

var events = []event{{"start", 1, []string{"a", "b"}}, {"stop", -1, nil}, {}}

// TestCodec_RoundTrips also checks that what is there already stays.
func TestCodec_RoundTrips(t *testing.T) {
	for name, c := range map[string]codec.Codec[event]{"json": codec.JSON[event](), "gob": codec.Gob[event]()} {
		for _, want := range events {
			b, err := c.Append([]byte("before"), want)
			if err != nil || string(b[:6]) != "before" {
				t.Fatalf("%s: %q, %v", name, b, err)
			}
			got, err := c.Decode(b[6:])
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
			}
		}
		if _, err := c.Decode([]byte("{nonsense")); err == nil {
			t.Errorf("%s decodes nonsense", name)
		}
	}
	b, err := codec.Raw.Append([]byte("be"), []byte("fore"))
	if err != nil || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
}

func stop(tb testing.TB, s interface{ Stop(context.Context) error }) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Error(err)
	}
}

func TestWriter_ToHandler_Decodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	got, failed := make(chan event, 10), make(chan error, 10)
	c := codec.JSON[event]()
	r, err := udsipc.NewReader(codec.Handler(c, func(e event) error { got <- e; return nil }), path,
		udsipc.WithReaderErrorCallback(func(err error, _ string) { failed <- err }))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := udsipc.NewWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	typed := codec.NewWriter(w, c)
	for _, e := range events {
		if err := typed.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteMessage([]byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	for _, want := range events {
		if e := <-got; !reflect.DeepEqual(e, want) {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	if err := <-failed; !errors.Is(err, codec.ErrInvalid) || !errors.Is(err, udsipc.ErrHandlerFailed) {
		t.Error(err)
	}
	stop(t, w)
	stop(t, r)
	cannot := codec.NewWriter(w, codec.Of(func([]byte, int) ([]byte, error) { return nil, errors.New("never") }, nil))
	if err := cannot.Write(1); err == nil || err.Error() != "never" {
		t.Error(err)
	}
}

func TestMessages_YieldsValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := udsipc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := udsipc.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for _, text := range []string{"1", "x", "3"} {
		if err := dialled.WriteMessage([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	dialled.Close()
	var got []string
	for n, err := range codec.Messages(accepted, codec.JSON[int]()) {
		got = append(got, fmt.Sprint(n, errors.Is(err, codec.ErrInvalid)))
	}
	if want := []string{"1 false", "0 true", "3 false"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCodec_DoesNotAllocate of the codec package's own.
func TestCodec_DoesNotAllocate(t *testing.T) {
	w := codec.NewWriter(discard{}, codec.Raw)
	handle := codec.Handler(codec.Raw, func([]byte) error { return nil })
	message := make([]byte, 1000)
	if n := testing.AllocsPerRun(1000, func() {
		if w.Write(message) != nil || handle(message) != nil {
			t.Error("failed")
		}
	}); n > 0.1 { // The pool may be emptied.
		t.Errorf("%v allocations a message", n)
	}
}

type discard struct{}

func (discard) WriteMessage([]byte) error { return nil }

// TestReader_ReadsOn after a message that cannot be decoded, a deadline in the middle of a message, and a message over
// the limit. Any other error is final.
func TestReader_ReadsOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := udsipc.Listen(path, udsipc.WithMaxMessageSize(100))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	r := codec.NewReader(accepted, codec.JSON[[]int]())
	var large *udsipc.TooLargeError
	for _, test := range []struct {
		bytes    string
		want     []int
		deadline bool
		ok       func(err error) bool
	}{
		{bytes: "\x03[1]", want: []int{1}},
		{bytes: "\x07[1,\"x\"]", ok: func(err error) bool { return errors.Is(err, codec.ErrInvalid) }},
		{bytes: "\x03[2", deadline: true, ok: func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{bytes: "", deadline: true, ok: func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{bytes: "]", want: []int{2}},
		{bytes: "\x65" + strings.Repeat("7", 101), ok: func(err error) bool { return errors.As(err, &large) }},
		{bytes: "\x00", ok: func(err error) bool { return errors.Is(err, codec.ErrInvalid) }},
		{bytes: "\x03[3]", want: []int{3}},
	} {
		if _, err := raw.Write([]byte(test.bytes)); err != nil {
			t.Fatal(err)
		}
		if test.deadline {
			if err := accepted.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		v, err := r.Read()
		if test.ok == nil && (err != nil || !reflect.DeepEqual(v, test.want)) ||
			test.ok != nil && (!test.ok(err) || v != nil) {
			t.Errorf("% x: %v, %v", test.bytes, v, err)
		}
		if err := accepted.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	raw.Close()
	for range 2 {
		if _, err := r.Read(); err != io.EOF {
			t.Error(err)
		}
	}
}

// TestReader_EndOfData_IsNoEndOfConnection: an io.EOF of the decoder, for a message that ends too early.
func TestReader_EndOfData_IsNoEndOfConnection(t *testing.T) {
	early := codec.Of(nil, func([]byte) (int, error) { return 1, fmt.Errorf("reading: %w", io.EOF) })
	for name, c := range map[string]codec.Codec[int]{"gob": codec.Gob[int](), "wrapped": early} {
		v, err := codec.NewReader(emptyMessages{}, c).Read()
		if v != 0 || !errors.Is(err, codec.ErrInvalid) || errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
		if err := codec.Handler(c, func(int) error { return nil })(nil); errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// emptyMessages is a MessageReader of empty messages.
type emptyMessages struct{}

func (emptyMessages) ReadMessage() (data []byte, err error) { return nil, nil }
