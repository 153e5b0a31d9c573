// SPDX-License-Identifier: Apache-2.0

package transport_test

// What a Writer makes of the last words of its reader.

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A farewell is a test vector of docs/PROTOCOL.md: what a Reader says last without a session.
type farewell struct {
	What    string         `json:"what"`
	Bytes   string         `json:"bytes"` // Hexadecimal, with spaces.
	Report  farewellReport `json:"report"`
	Foreign bool           `json:"foreign"` // The peer does not speak this protocol.
}

// A farewellReport is a report, with its fields as they are called in the vectors.
type farewellReport struct {
	Reason      wire.CloseReason `json:"reason"`
	FirstUnread uint64           `json:"next"`
	Skipped     uint64           `json:"skipped"`
	Limit       uint64           `json:"limit"`
}

func farewells(tb testing.TB) (all []farewell) {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/goodbye.json")
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

// TestGoodbye_Vectors_ParseAndForm parses each vector in one piece and byte by byte, and forms the known ones.
func TestGoodbye_Vectors_ParseAndForm(t *testing.T) {
	document, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range farewells(t) {
		t.Run(v.What, func(t *testing.T) {
			b, want := ipctest.Unhex(t, v.Bytes), wire.CloseReport(v.Report)
			for _, size := range []int{1, 2, len(b)} {
				heard, report, foreign := transport.LastWords(b, size)
				if heard != (b[0] == 0) || report != want || foreign != v.Foreign {
					t.Errorf("in pieces of %d: goodbye %v, foreign %v, %+v; want %+v", size, heard, foreign, report, want)
				}
			}
			known := want.Limit > 0 && want.Reason < 7
			if got := append([]byte{0}, want.Append(nil)...); known && !bytes.Equal(got, b) {
				t.Errorf("written as % x", got)
			}
			if !strings.Contains(string(document), "| "+v.What+" | `"+v.Bytes+"` |") {
				t.Errorf("docs/PROTOCOL.md has no row with it")
			}
		})
	}
}

// FuzzLastWords: whatever a peer sends, no more messages are counted as lost than were written, and the pieces
// in which it arrives do not matter.
func FuzzLastWords(f *testing.F) {
	for _, v := range farewells(f) {
		f.Add(ipctest.Unhex(f, v.Bytes), uint8(1))
	}
	f.Add([]byte{0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, uint8(3))
	f.Add(bytes.Repeat([]byte{0}, 1000), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		heard, report, foreign := transport.LastWords(b, len(b))
		heardPieces, reportPieces, foreignPieces := transport.LastWords(b, int(size)+1)
		if heard != heardPieces || report != reportPieces || foreign != foreignPieces {
			t.Errorf("in one piece %v %+v %v, in pieces of %d %v %+v %v", heard, report, foreign,
				size+1, heardPieces, reportPieces, foreignPieces)
		}
		if heard && len(b) == 0 || heard && b[0] != 0 {
			t.Errorf("a goodbye in % x", b)
		}
		if report.FirstUnread == 0 {
			return
		}
		for _, written := range []uint64{0, 1, report.FirstUnread - 1, report.FirstUnread, 1 << 63} {
			if lost := report.Lost(written); lost > written {
				t.Errorf("%d of %d messages are lost, says %+v", lost, written, report)
			}
		}
	})
}
