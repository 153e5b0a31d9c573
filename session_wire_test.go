// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// A greeting is a test vector of docs/PROTOCOL.md. Its numbers are checked against those that the bytes
// are parsed to, and the bytes against those that the numbers are written as.
type greeting struct {
	What  string `json:"what"`
	Bytes string `json:"bytes"` // Hexadecimal, with spaces.
	Hello *struct {
		Writer      string `json:"writer"`
		Attempt     uint64 `json:"epoch"`
		First, Sent uint64
		Silence     int64 `json:"heartbeat_timeout_ms"`
	} `json:"hello,omitempty"`
	Welcome *struct {
		Status, Handled, Limit uint64
		Silence                int64 `json:"heartbeat_timeout_ms"`
	} `json:"welcome,omitempty"`
	Back    []string `json:"back,omitempty"`    // Numbers, "goodbye" and "heartbeat".
	Invalid string   `json:"invalid,omitempty"` // "hello", "welcome" or "back".
}

func greetings(tb testing.TB) (all []greeting) {
	tb.Helper()
	text, err := os.ReadFile("testdata/session.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	if len(all) < 10 {
		tb.Fatalf("%d vectors", len(all))
	}
	return all
}

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestSessionVectors(t *testing.T) {
	for _, v := range greetings(t) {
		t.Run(v.What, func(t *testing.T) {
			b := unhex(t, v.Bytes)
			switch {
			case v.Invalid != "":
				checkInvalid(t, v.Invalid, b)
			case v.Hello != nil:
				want := udsipc.Hello{Attempt: v.Hello.Attempt, First: v.Hello.First, Sent: v.Hello.Sent, Silence: time.Duration(v.Hello.Silence) * time.Millisecond}
				copy(want.Writer[:], unhex(t, v.Hello.Writer))
				if got, size, err := udsipc.ParseHello(b); got != want || size != len(b) || err != nil {
					t.Errorf("parsed to %+v, %d bytes, %v", got, size, err)
				}
				if got := want.Bytes(); !bytes.Equal(got, b) {
					t.Errorf("written as % x", got)
				}
			case v.Welcome != nil:
				want := udsipc.Welcome{Status: v.Welcome.Status, Handled: v.Welcome.Handled, Limit: v.Welcome.Limit, Silence: time.Duration(v.Welcome.Silence) * time.Millisecond}
				if got, size, err := udsipc.ParseWelcome(b); got != want || size != len(b) || err != nil {
					t.Errorf("parsed to %+v, %d bytes, %v", got, size, err)
				}
				if got := want.Bytes(); !bytes.Equal(got, b) {
					t.Errorf("written as % x", got)
				}
			default:
				if got, _ := parseAllBack(b); !slices.Equal(got, v.Back) {
					t.Errorf("parsed to %q, want %q", got, v.Back)
				}
			}
		})
	}
}

func checkInvalid(t *testing.T, what string, b []byte) {
	t.Helper()
	var err error
	switch what {
	case "hello":
		_, _, err = udsipc.ParseHello(b)
	case "welcome":
		_, _, err = udsipc.ParseWelcome(b)
	case "back":
		_, err = parseAllBack(b)
	default:
		t.Fatalf("%q is none of them", what)
	}
	if !errors.Is(err, udsipc.ErrInvalidSession) {
		t.Errorf("parsed with %v, want ErrInvalidSession", err)
	}
}

// parseAllBack returns what a reader says in b, as the vectors have it.
func parseAllBack(b []byte) (said []string, err error) {
	for {
		handled, alive, size, err := udsipc.ParseBack(b)
		if err != nil || size == 0 {
			return said, err
		}
		switch {
		case alive:
			said = append(said, "heartbeat")
		case handled == 0:
			said = append(said, "goodbye")
		default:
			said = append(said, string(binary.AppendUvarint(nil, handled)))
			said[len(said)-1] = decimal(handled)
		}
		b = b[size:]
	}
}

func decimal(n uint64) string {
	text, _ := json.Marshal(n) // A number always marshals.
	return string(text)
}

// TestSessionVectorsInTheDocument: docs/PROTOCOL.md has each of them.
func TestSessionVectorsInTheDocument(t *testing.T) {
	text := document(t)
	for _, v := range greetings(t) {
		if !strings.Contains(text, "| "+v.What+" | `"+v.Bytes+"` |") {
			t.Errorf("no row %q with the bytes %s", v.What, v.Bytes)
		}
	}
}

// TestGreetingsInPieces: a hello and a welcome are whole at their last byte, and not before.
func TestGreetingsInPieces(t *testing.T) {
	hello := udsipc.Hello{Writer: udsipc.WriterID{1, 2, 3}, Attempt: 1 << 40, First: 300, Sent: math.MaxInt64, Silence: time.Hour}.Bytes()
	for n := range hello {
		if _, size, err := udsipc.ParseHello(hello[:n]); size != 0 || err != nil {
			t.Errorf("%d bytes of a hello: %d, %v", n, size, err)
		}
	}
	welcome := udsipc.Welcome{Handled: math.MaxInt64, Limit: 1 << 30, Silence: time.Second}.Bytes()
	for n := range welcome {
		if _, size, err := udsipc.ParseWelcome(welcome[:n]); size != 0 || err != nil {
			t.Errorf("%d bytes of a welcome: %d, %v", n, size, err)
		}
	}
}

func FuzzHello(f *testing.F) {
	for _, v := range greetings(f) {
		f.Add(unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := udsipc.ParseHello(b)
		switch {
		case err != nil && !errors.Is(err, udsipc.ErrInvalidSession):
			t.Errorf("error %v", err)
		case err != nil || size == 0:
		case size > len(b) || h.Attempt == 0 || h.First == 0 || h.Sent < h.First-1 || h.First > math.MaxInt64 || h.Sent > math.MaxInt64:
			t.Errorf("%+v in %d bytes cannot be", h, size)
		default:
			again, n, err := udsipc.ParseHello(h.Bytes())
			if again != h || n == 0 || err != nil {
				t.Errorf("%+v is written and parsed as %+v, %v", h, again, err)
			}
		}
	})
}

func FuzzWelcome(f *testing.F) {
	for _, v := range greetings(f) {
		f.Add(unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, size, err := udsipc.ParseWelcome(b)
		switch {
		case err != nil && !errors.Is(err, udsipc.ErrInvalidSession):
			t.Errorf("error %v", err)
		case err != nil || size == 0:
		case size > len(b) || w.Handled > math.MaxInt64 || w.Status == 0 && w.Limit == 0:
			t.Errorf("%+v in %d bytes cannot be", w, size)
		default:
			again, n, err := udsipc.ParseWelcome(w.Bytes())
			if again != w || n == 0 || err != nil {
				t.Errorf("%+v is written and parsed as %+v, %v", w, again, err)
			}
		}
	})
}

// FuzzAcknowledgements hands what a reader may send back to the queue of a Writer that has sent some
// messages: whatever it is, no message leaves that was not sent, and none comes back.
func FuzzAcknowledgements(f *testing.F) {
	for _, v := range greetings(f) {
		f.Add(unhex(f, v.Bytes), uint8(5), uint8(3))
	}
	f.Add([]byte{1, 2, 0x80, 0, 5, 0}, uint8(9), uint8(6))
	f.Fuzz(func(t *testing.T, b []byte, messages, sent uint8) {
		sent = min(sent, messages)
		acknowledged, left, err := udsipc.Acknowledge(b, int(messages), int(sent))
		if err != nil && !errors.Is(err, udsipc.ErrInvalidSession) {
			t.Errorf("error %v", err)
		}
		if acknowledged > uint64(sent) || acknowledged+left != uint64(messages) {
			t.Errorf("%d acknowledged and %d left of %d messages, of which %d were sent", acknowledged, left, messages, sent)
		}
	})
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for n := range 1000 {
		times = append(times, time.Duration(n+1)*time.Microsecond)
	}
	got := udsipc.Percentiles(times)
	if got.Count != 1000 || got.Max != time.Millisecond {
		t.Errorf("%+v", got)
	}
	if p50 := 500 * time.Microsecond; got.P50 < p50 || got.P50 > p50*5/4 {
		t.Errorf("p50 is %v", got.P50)
	}
	if p99 := 990 * time.Microsecond; got.P99 < p99 || got.P99 > p99*5/4 {
		t.Errorf("p99 is %v", got.P99)
	}
	for _, d := range []time.Duration{0, 1, 2, 3, 4, 5, 7, 8, 1 << 20, 1<<20 - 1, math.MaxInt64} {
		if got := udsipc.Percentiles([]time.Duration{d, d}); got.P50 != d || got.P99 != d || got.Max != d {
			t.Errorf("%v twice is %+v", d, got)
		}
	}
	if got := udsipc.Percentiles(nil); got != (udsipc.LatencySummary{}) {
		t.Errorf("nothing is %+v", got)
	}
}
