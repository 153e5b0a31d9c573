// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
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
	text, err := os.ReadFile("../../testdata/session.json")
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

func TestSession_Vectors_ParseAndForm(t *testing.T) {
	for _, v := range greetings(t) {
		t.Run(v.What, func(t *testing.T) {
			b := ipctest.Unhex(t, v.Bytes)
			switch {
			case v.Invalid != "":
				checkInvalid(t, v.Invalid, b)
			case v.Hello != nil:
				want := wire.Hello{
					Epoch: v.Hello.Attempt, FirstSeq: v.Hello.First, LastSentSeq: v.Hello.Sent,
					HeartbeatTimeout: time.Duration(v.Hello.Silence) * time.Millisecond,
				}
				copy(want.Writer[:], ipctest.Unhex(t, v.Hello.Writer))
				if got, size, err := wire.ParseHello(b); got != want || size != len(b) || err != nil {
					t.Errorf("parsed to %+v, %d bytes, %v", got, size, err)
				}
				if got := want.Append(nil); !bytes.Equal(got, b) {
					t.Errorf("written as % x", got)
				}
			case v.Welcome != nil:
				want := wire.Welcome{
					Status: wire.Status(v.Welcome.Status), Handled: v.Welcome.Handled,
					Limit:            v.Welcome.Limit,
					HeartbeatTimeout: time.Duration(v.Welcome.Silence) * time.Millisecond,
				}
				if got, size, err := wire.ParseWelcome(b); got != want || size != len(b) || err != nil {
					t.Errorf("parsed to %+v, %d bytes, %v", got, size, err)
				}
				if got := want.Append(nil); !bytes.Equal(got, b) {
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
		_, _, err = wire.ParseHello(b)
	case "welcome":
		_, _, err = wire.ParseWelcome(b)
	case "back":
		_, err = parseAllBack(b)
	default:
		t.Fatalf("%q is none of them", what)
	}
	if !errors.Is(err, errdefs.ErrInvalidSession) {
		t.Errorf("parsed with %v, want ErrInvalidSession", err)
	}
}

// parseAllBack returns what a reader says in b, as the vectors have it.
func parseAllBack(b []byte) (said []string, err error) {
	for {
		handled, alive, size, err := wire.ParseAck(b)
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

// TestDocs_SessionVectors_MatchTestdata: docs/PROTOCOL.md has each of them.
func TestDocs_SessionVectors_MatchTestdata(t *testing.T) {
	text, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range greetings(t) {
		if !strings.Contains(string(text), "| "+v.What+" | `"+v.Bytes+"` |") {
			t.Errorf("no row %q with the bytes %s", v.What, v.Bytes)
		}
	}
}

// TestSession_HandshakeInPieces_ParsesAtLastByte: a hello and a welcome are whole at their last byte, and not before.
func TestSession_HandshakeInPieces_ParsesAtLastByte(t *testing.T) {
	hello := wire.Hello{
		Writer: wire.WriterID{1, 2, 3}, Epoch: 1 << 40, FirstSeq: 300, LastSentSeq: math.MaxInt64,
		HeartbeatTimeout: time.Hour,
	}.Append(nil)
	for n := range hello {
		if _, size, err := wire.ParseHello(hello[:n]); size != 0 || err != nil {
			t.Errorf("%d bytes of a hello: %d, %v", n, size, err)
		}
	}
	welcome := wire.Welcome{Handled: math.MaxInt64, Limit: 1 << 30, HeartbeatTimeout: time.Second}.Append(nil)
	for n := range welcome {
		if _, size, err := wire.ParseWelcome(welcome[:n]); size != 0 || err != nil {
			t.Errorf("%d bytes of a welcome: %d, %v", n, size, err)
		}
	}
}

func FuzzHello(f *testing.F) {
	for _, v := range greetings(f) {
		f.Add(ipctest.Unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := wire.ParseHello(b)
		switch {
		case err != nil && !errors.Is(err, errdefs.ErrInvalidSession):
			t.Errorf("error %v", err)
		case err != nil || size == 0:
		case size > len(b) || h.Epoch == 0 || h.FirstSeq == 0 || h.LastSentSeq < h.FirstSeq-1 ||
			h.FirstSeq > math.MaxInt64 || h.LastSentSeq > math.MaxInt64:
			t.Errorf("%+v in %d bytes cannot be", h, size)
		default:
			again, n, err := wire.ParseHello(h.Append(nil))
			if again != h || n == 0 || err != nil {
				t.Errorf("%+v is written and parsed as %+v, %v", h, again, err)
			}
		}
	})
}

func FuzzWelcome(f *testing.F) {
	for _, v := range greetings(f) {
		f.Add(ipctest.Unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, size, err := wire.ParseWelcome(b)
		switch {
		case err != nil && !errors.Is(err, errdefs.ErrInvalidSession):
			t.Errorf("error %v", err)
		case err != nil || size == 0:
		case size > len(b) || w.Handled > math.MaxInt64 || w.Status == 0 && w.Limit == 0:
			t.Errorf("%+v in %d bytes cannot be", w, size)
		default:
			again, n, err := wire.ParseWelcome(w.Append(nil))
			if again != w || n == 0 || err != nil {
				t.Errorf("%+v is written and parsed as %+v, %v", w, again, err)
			}
		}
	})
}
