// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// numbers are unsigned varints, one behind the other.
func numbers(all ...uint64) (b []byte) {
	for _, n := range all {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// wireID is some writer's.
var wireID = wire.WriterID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// helloOf is a hello of this body, with something behind it.
func helloOf(body ...[]byte) []byte {
	b := wire.AppendFrame([]byte("\xf5\xe4\xf3\xe9\xf0\xe3\xad\xe1\xe3\xeb\xe5\xe4"), bytes.Join(body, nil))
	return append(b, "behind"...)
}

// wantWireError wants an error that matches and says this.
func wantWireError(t *testing.T, what string, err, match error, text string) {
	t.Helper()
	if !errors.Is(err, match) || err == nil || !strings.HasSuffix(err.Error(), text) {
		t.Errorf("%s: %v, want %v: %s", what, err, match, text)
	}
}

// TestHello_RoundTrips is written byte by byte, and read again.
func TestHello_RoundTrips(t *testing.T) {
	h := wire.Hello{Writer: wireID, Epoch: 300, FirstSeq: 5, LastSentSeq: 4, HeartbeatTimeout: 1500*time.Millisecond + 999}
	b := helloOf([]byte{1}, wireID[:], numbers(300, 5, 4, 1500))
	if got := h.Append(nil); !bytes.Equal(got, b[:len(b)-6]) {
		t.Errorf("written as % x, want % x", got, b)
	}
	h.HeartbeatTimeout = 1500 * time.Millisecond
	if got, size, err := wire.ParseHello(b); got != h || size != len(b)-6 || err != nil {
		t.Errorf("read as %+v, %d bytes, %v", got, size, err)
	}
	for n := range len(b) - 6 {
		if _, size, err := wire.ParseHello(b[:n]); size != 0 || err != nil {
			t.Errorf("the first %d bytes: %d, %v", n, size, err)
		}
		if n < 12 && !wire.HasPreface(b[:n]) {
			t.Errorf("the first %d bytes do not open a session", n)
		}
	}
}

// TestHello_Invalid_IsRejected: each thing that can be wrong with one.
func TestHello_Invalid_IsRejected(t *testing.T) {
	id := wireID[:]
	for _, test := range []struct {
		what  string
		b     []byte
		match error
		text  string
		whole bool
	}{
		{"another opening", []byte("\xf5\xe4x"), errdefs.ErrInvalidSession,
			"malformed session handshake: it begins with f5 e4 78", false},
		{"another opening, whole", []byte("\xf5\xe4\xf3\xe9\xf0\xe3\xad\xe1\xe3\xeb\xe5xyz"),
			errdefs.ErrInvalidSession, "it begins with f5 e4 f3 e9 f0 e3 ad e1 e3 eb e5 78",
			false},
		{"no body", helloOf(), errdefs.ErrInvalidSession, "malformed session handshake: 0 bytes, want 1 to 128", false},
		{"too long", helloOf(make([]byte, 129)), errdefs.ErrInvalidSession,
			"malformed session handshake: 129 bytes, want 1 to 128", false},
		{"a broken prefix",
			[]byte("\xf5\xe4\xf3\xe9\xf0\xe3\xad\xe1\xe3\xeb\xe5\xe4\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
			errdefs.ErrInvalidLengthPrefix, "is longer than 64 bits", false},
		{"another version", helloOf([]byte{2}), wire.ErrVersion,
			"unknown version: the writer speaks 2, this reader 1", false},
		{"no version", helloOf([]byte{0}), wire.ErrVersion, "the peer asks which one is known", false},
		{"a version that is no number", helloOf([]byte{0x80}), errdefs.ErrInvalidSession,
			"malformed session handshake: 80 is no number of up to 63 bits", true},
		{"a short ID", helloOf([]byte{1}, id[:15]), errdefs.ErrInvalidSession,
			"malformed session handshake: it ends too early", true},
		{"no numbers", helloOf([]byte{1}, id), errdefs.ErrInvalidSession,
			"malformed session handshake:  is no number of up to 63 bits", true},
		{"too few", helloOf([]byte{1}, id, numbers(1, 1, 0)), errdefs.ErrInvalidSession,
			"malformed session handshake:  is no number of up to 63 bits", true},
		{"too many", helloOf([]byte{1}, id, numbers(1, 1, 0, 0, 7, 7)), errdefs.ErrInvalidSession,
			"malformed session handshake: 2 bytes too many", true},
		{"a large number", helloOf([]byte{1}, id, numbers(1, 1, 1<<63, 0)),
			errdefs.ErrInvalidSession,
			"malformed session handshake: 80 80 80 80 80 80 80 80 80 01 is no number of up to 63 bits",
			true},
		{"an attempt of 0", helloOf([]byte{1}, id, numbers(0, 1, 0, 0)), errdefs.ErrInvalidSession,
			"malformed session handshake: epoch 0, messages 1 to 0 cannot be", true},
		{"a first message of 0", helloOf([]byte{1}, id, numbers(1, 0, 7, 0)),
			errdefs.ErrInvalidSession,
			"malformed session handshake: epoch 1, messages 0 to 7 cannot be", true},
		{"messages that cannot be", helloOf([]byte{1}, id, numbers(1, 9, 7, 0)),
			errdefs.ErrInvalidSession,
			"malformed session handshake: epoch 1, messages 9 to 7 cannot be", true},
	} {
		h, size, err := wire.ParseHello(test.b)
		wantWireError(t, test.what, err, test.match, test.text)
		want := 0
		if test.whole {
			want = len(test.b) - len("behind")
		}
		if errors.Is(err, wire.ErrVersion) != (test.match == wire.ErrVersion) || size != want ||
			max(h.FirstSeq, h.LastSentSeq) > math.MaxInt64 {
			t.Errorf("%s: %+v, %d bytes, %v", test.what, h, size, err)
		}
	}
	for _, sent := range []uint64{8, 9, math.MaxInt64} {
		if _, _, err := wire.ParseHello(helloOf([]byte{1}, id, numbers(1, 9, sent, 0))); err != nil {
			t.Errorf("messages 9 to %d: %v", sent, err)
		}
	}
}

// TestWelcome_RoundTrips is written byte by byte, and read again.
func TestWelcome_RoundTrips(t *testing.T) {
	for _, w := range []wire.Welcome{
		{Handled: 300, Limit: 1 << 20, HeartbeatTimeout: 2 * time.Second}, {Limit: 1},
		{Status: 2, Handled: math.MaxInt64}, {Status: 9, Handled: 7},
	} {
		b := wire.AppendFrame(nil, numbers(1, uint64(w.Status), w.Handled, w.Limit,
			uint64(w.HeartbeatTimeout/time.Millisecond)))
		if got := w.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%+v: % x, want % x", w, got, b)
		}
		if got, size, err := wire.ParseWelcome(append(b, "behind"...)); got != w || size != len(b) || err != nil {
			t.Errorf("%+v is read as %+v, %d bytes, %v", w, got, size, err)
		}
		for n := range b {
			if got, size, err := wire.ParseWelcome(b[:n]); got != (wire.Welcome{}) || size != 0 || err != nil {
				t.Errorf("the first %d bytes: %+v, %d, %v", n, got, size, err)
			}
		}
	}
}

// TestWelcome_Invalid_IsRejected: each thing that can be wrong with one.
func TestWelcome_Invalid_IsRejected(t *testing.T) {
	for _, test := range []struct {
		what  string
		body  []byte
		match error
		text  string
	}{
		{"another version", numbers(2), errdefs.ErrInvalidSession,
			"malformed session handshake:  is no number of up to 63 bits"},
		{"another version, with a status", numbers(2, 0), wire.ErrVersion,
			"unknown version: the reader speaks 2, this writer 1"},
		{"the writer's version is unknown", numbers(1, 1), wire.ErrVersion,
			"unknown version: the reader speaks 1, this writer 1"},
		{"no numbers", numbers(1, 0), errdefs.ErrInvalidSession, " is no number of up to 63 bits"},
		{"too many", numbers(1, 0, 1, 1, 0, 7), errdefs.ErrInvalidSession, "malformed session handshake: 1 bytes too many"},
		{"a limit of 0", numbers(1, 0, 1, 0, 0), errdefs.ErrInvalidSession,
			"malformed session handshake: a limit of 0 bytes cannot be"},
		{"nothing", nil, errdefs.ErrInvalidSession, "malformed session handshake: 0 bytes, want 1 to 128"},
	} {
		w, size, err := wire.ParseWelcome(wire.AppendFrame(nil, test.body))
		wantWireError(t, test.what, err, test.match, test.text)
		if size != 0 || errors.Is(err, wire.ErrVersion) != (test.match == wire.ErrVersion) {
			t.Errorf("%s: %+v, %d bytes, %v", test.what, w, size, err)
		}
	}
	for n, want := range []string{"welcome", "unknown version", "a newer connection exists", "status 3", "status 4"} {
		if got := wire.Status(n).String(); got != want {
			t.Errorf("status %d is %q, want %q", n, got, want)
		}
	}
}

// TestHandshake_HeartbeatTimeout_HasMinimum: what is shorter than anybody can keep counts as a
// tenth of a second, what is longer than a duration as that.
func TestHandshake_HeartbeatTimeout_HasMinimum(t *testing.T) {
	const longest = math.MaxInt64 / time.Millisecond
	for _, test := range []struct {
		milliseconds uint64
		want         time.Duration
	}{
		{0, 0}, {1, 100 * time.Millisecond}, {100, 100 * time.Millisecond}, {101, 101 * time.Millisecond},
		{uint64(longest), longest * time.Millisecond},
		{uint64(longest) + 1, longest * time.Millisecond},
		{math.MaxInt64, longest * time.Millisecond},
	} {
		b := helloOf([]byte{1}, wireID[:], numbers(1, 1, 0, test.milliseconds))
		if h, _, err := wire.ParseHello(b); h.HeartbeatTimeout != test.want || err != nil {
			t.Errorf("%d ms are read as %v, %v", test.milliseconds, h.HeartbeatTimeout, err)
		}
	}
}

// TestHandshake_EverySize_IsChecked: up to the longest one.
func TestHandshake_EverySize_IsChecked(t *testing.T) {
	for _, size := range []int{1, 2, 127, 128} {
		body := append(numbers(1, 9), make([]byte, 130)...)[:size]
		_, _, err := wire.ParseWelcome(wire.AppendFrame(nil, body))
		if err == nil || strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestHeartbeat_Forms_AreDistinct are what docs/PROTOCOL.md says, byte by byte.
func TestHeartbeat_Forms_AreDistinct(t *testing.T) {
	for name, test := range map[string]struct{ got, want []byte }{
		"opening": {wire.SessionPreface, []byte("\xf5\xe4\xf3\xe9\xf0\xe3\xad\xe1\xe3\xeb\xe5\xe4")},
		"beat":    {wire.Heartbeat, []byte{0x80, 0}},
		"goodbye": {wire.Goodbye, []byte{0}},
	} {
		if !bytes.Equal(test.got, test.want) {
			t.Errorf("%s: % x, want % x", name, test.got, test.want)
		}
	}
	if wire.HeartbeatsPerTimeout != 3 {
		t.Errorf("%d heartbeats in the time in which one must arrive", wire.HeartbeatsPerTimeout)
	}
}

// TestAck_RoundTrips: what a reader sends after the welcome.
func TestAck_RoundTrips(t *testing.T) {
	for _, test := range []struct {
		b       []byte
		handled uint64
		alive   bool
		size    int
		text    string
	}{
		{nil, 0, false, 0, ""},
		{[]byte{0x80}, 0, false, 0, ""},
		{[]byte{0x80, 0, 9}, 0, true, 2, ""},
		{[]byte{0, 0x80, 0}, 0, false, 1, ""},
		{[]byte{5, 0}, 5, false, 1, ""},
		{[]byte{0xac, 2, 0}, 300, false, 2, ""},
		{[]byte{0x81, 0}, 0, false, 0, "malformed acknowledgement: 81 00 is longer than it need be"},
		{[]byte{0x80, 0x80, 0, 1}, 0, false, 0, "malformed acknowledgement: 80 80 00 is longer than it need be"},
		{bytes.Repeat([]byte{0xff}, 11), 0, false, 0, "is longer than 64 bits"},
	} {
		handled, alive, size, err := wire.ParseAck(test.b)
		if handled != test.handled || alive != test.alive || size != test.size {
			t.Errorf("% x: %d, alive %v, %d bytes", test.b, handled, alive, size)
		}
		if test.text == "" && err != nil {
			t.Errorf("% x: %v", test.b, err)
		} else if test.text != "" {
			wantWireError(t, "back", err, errdefs.ErrInvalidSession, test.text)
		}
	}
	_, _, _, err := wire.ParseAck(bytes.Repeat([]byte{0xff}, 11))
	if !errors.Is(err, errdefs.ErrInvalidLengthPrefix) {
		t.Error("no word of the prefix")
	}
}

// TestCloseReport_RoundTrips is written byte by byte, and read again, with fields of later versions behind.
func TestCloseReport_RoundTrips(t *testing.T) {
	for _, r := range []wire.CloseReport{
		{Limit: 5}, {Reason: 3, FirstUnread: 300, Skipped: 299, Limit: 1 << 20},
		{Reason: 99, Skipped: 7, Limit: 1}, {FirstUnread: 1},
	} {
		body := numbers(uint64(r.Reason), r.FirstUnread, r.Skipped, r.Limit)
		b := wire.AppendFrame(nil, body)
		if got := r.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%+v: % x, want % x", r, got, b)
		}
		later := wire.AppendFrame(nil, append(body, 1, 2, 0x80))
		for _, b := range [][]byte{b, later} {
			if got, size, err := wire.ParseCloseReport(append(slices.Clone(b), 9)); got != r || size != len(b) || err != nil {
				t.Errorf("%+v is read as %+v, %d bytes, %v", r, got, size, err)
			}
		}
		for n := range b {
			if got, size, err := wire.ParseCloseReport(b[:n]); got != (wire.CloseReport{}) || size != 0 || err != nil {
				t.Errorf("the first %d bytes: %+v, %d, %v", n, got, size, err)
			}
		}
	}
	for _, test := range []struct {
		body []byte
		text string
	}{
		{numbers(0, 5, 5, 1), "malformed session handshake: 5 of 4 messages skipped"},
		{numbers(0, 5, 6, 1), "malformed session handshake: 6 of 4 messages skipped"},
		{numbers(0, 1, 1, 1), "malformed session handshake: 1 of 0 messages skipped"},
		{numbers(0, 5, 4), " is no number of up to 63 bits"},
		{numbers(0, 5, 5), " is no number of up to 63 bits"},
		{nil, "0 bytes, want 1 to 128"},
	} {
		r, size, err := wire.ParseCloseReport(wire.AppendFrame(nil, test.body))
		wantWireError(t, "report", err, errdefs.ErrInvalidSession, test.text)
		if r != (wire.CloseReport{}) || size != 0 {
			t.Errorf("%+v, %d bytes, %v", r, size, err)
		}
	}
}

// TestCloseReport_Lost_CountsMessages: what was not read, and what was read and skipped, but no more than was written.
func TestCloseReport_Lost_CountsMessages(t *testing.T) {
	for _, test := range []struct{ next, skipped, written, want uint64 }{
		{1, 0, 0, 0}, {1, 0, 5, 5}, {4, 0, 5, 2}, {4, 1, 5, 3}, {4, 3, 5, 5}, {6, 0, 5, 0},
		{6, 2, 5, 2}, {9, 7, 5, 5}, {9, 0, 5, 0}, {9, 3, 0, 0},
	} {
		if got := (wire.CloseReport{FirstUnread: test.next, Skipped: test.skipped}).Lost(test.written); got != test.want {
			t.Errorf("%+v: %d lost", test, got)
		}
	}
	for reason, want := range []bool{false, true, true, false, false, false, true, true, false} {
		if got := wire.CloseReason(reason).RejectsPeer(); got != want {
			t.Errorf("reason %d rejects the peer: %v", reason, got)
		}
	}
}
