// SPDX-License-Identifier: Apache-2.0

package transport_test

// Deliver has a short way for small messages. It must do what Next does.

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/transport"
)

// delivered reads a stream, which arrives in pieces, to its end, and returns what happens.
func delivered(t *testing.T, stream string, piece int, session bool, take func(in testIn, note func(string)) error) (
	events []string,
) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 20000, ReadSize: 16 << 10})
		if session {
			in.BeginSession(0, 0, 0, 0)
		}
		go func() { // Ends with the stream.
			for rest := stream; rest != ""; {
				n, err := in.peer.Write([]byte(rest[:min(piece, len(rest))]))
				if err != nil {
					return
				}
				rest = rest[n:]
			}
			_ = in.peer.Close()
		}()
		note := func(event string) {
			events = append(events, fmt.Sprintf("%.300s; %d, last %d, buffered %+v",
				event, in.Received(), len(in.LastMessage()), in.Buffered()))
		}
		go func() { _, _ = io.Copy(io.Discard, in.peer) }() // The acknowledgements; ends with the stream.
		for in.Fill() == nil {
			for {
				err := take(in, note)
				if err == nil {
					break
				}
				events = append(events, err.Error())
				if in.Skipping() == 0 {
					return
				}
			}
		}
	})
	return events
}

// TestIn_Deliver_EqualsNext for messages of all kinds, also if they arrive in pieces.
func TestIn_Deliver_EqualsNext(t *testing.T) {
	long := func(n int) string { return framed(strings.Repeat("x", n)) }
	var b strings.Builder
	for _, n := range []int{
		0, 1, 2, 127, 128, 129, 1000, 16<<10 - 3, 16<<10 - 2, 16<<10 - 1, 16 << 10, 5, 20000, 20001, 3, 30000, 0, 7,
	} {
		b.WriteString(long(n) + "\x81\x00a" + "\x80\x00" + "\xff\x00" + strings.Repeat("y", 127) + "\x82\x80\x00bc")
	}
	b.WriteString("\x01c" + strings.Repeat("\xff", 11))
	for _, piece := range []int{1, 3, 130, 4000, 1 << 20} {
		for _, session := range []bool{false, true} {
			byNext := delivered(t, b.String(), piece, session, func(in testIn, note func(string)) error {
				for {
					data, ok, err := in.Next()
					if !ok {
						return err
					}
					note(string(data))
				}
			})
			byDeliver := delivered(t, b.String(), piece, session, func(in testIn, note func(string)) error {
				return in.Deliver(func(data []byte) {
					if cap(data) != len(data) {
						t.Errorf("a message of %d bytes has room for %d", len(data), cap(data))
					}
					note(string(data))
				})
			})
			if len(byNext) < 60 {
				t.Fatalf("pieces of %d: only %d events: %q", piece, len(byNext), byNext)
			}
			for i := range max(len(byNext), len(byDeliver)) {
				if i >= len(byNext) || i >= len(byDeliver) || byNext[i] != byDeliver[i] {
					t.Fatalf("pieces of %d, session %v: event %d of %d and %d differs:\n%q\n%q", piece, session, i, len(byNext),
						len(byDeliver), byNext[i:min(i+1, len(byNext))], byDeliver[i:min(i+1, len(byDeliver))])
				}
			}
		}
	}
}
