// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_CutAtEveryByteBothWays_AccountsForMessages breaks a connection after each byte that
// flows in one direction, in turn, with and without what was under way. In a session every message
// is handled once; in plain mode what was handed over and did not arrive is reported.
func TestWriter_CutAtEveryByteBothWays_AccountsForMessages(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 5
	}
	var messages []string
	for i, size := range []int{0, 1, 127, 128, 0, 300, 2, 0, 0, 5, 40} {
		messages = append(messages, strings.Repeat(string(rune('a'+i)), size))
	}
	stream := len(ipctest.Frames(messages...))
	for _, mode := range []struct {
		name  string
		opts  []udsipc.WriterOption
		bytes [2]int // Flow at most: to the reader, and back.
	}{
		{"plain", nil, [2]int{stream, 1}},
		{"session", []udsipc.WriterOption{udsipc.WithAcknowledgements()}, [2]int{stream + 60, 20}},
	} {
		for way, bytes := range mode.bytes {
			t.Run(fmt.Sprint(mode.name, way), func(t *testing.T) {
				for offset := 0; offset <= bytes; offset += step {
					for _, deliver := range []bool{false, true} {
						synctest.Test(t, func(t *testing.T) { breakOnce(t, messages, mode.opts, way, offset, deliver) })
					}
				}
			})
		}
	}
}

// breakOnce sends the messages over a connection that breaks, and what is needed over another one.
func breakOnce(t *testing.T, messages []string, opts []udsipc.WriterOption, way, offset int, deliver bool) {
	n := new(ipctest.SimNet)
	n.BreakFirst = func(l *ipctest.SimLink) { l.CutAfter(way, offset, deliver) }
	var got []string
	r := ipctest.StartReader(t,
		func(data []byte) error { got = append(got, string(data)); return nil }, "x",
		udsipc.WithListener(n.Listen()))
	w := ipctest.NewWriter(t, "x", append(opts, udsipc.WithDialer(n.Dial))...)
	for _, message := range messages {
		ipctest.MustWriteMessage(t, w, message)
	}
	ipctest.MustStart(t, w)
	time.Sleep(time.Second)
	ipctest.StopAndTell(t, w)
	ipctest.Stop(t, r)
	m := w.Metrics()
	where := fmt.Sprintf("cut after %d bytes, delivered %v", offset, deliver)
	if m.PossiblyLost == 0 && !slices.Equal(got, messages) {
		t.Errorf("%s: %q was handled, and no loss reported", where, got)
	}
	if missing := len(messages) - len(got); missing < 0 || uint64(missing) > m.PossiblyLost {
		t.Errorf("%s: %q was handled, %d possibly lost", where, got, m.PossiblyLost)
	}
	if len(opts) > 0 && (m.PossiblyLost > 0 || m.Acknowledged != uint64(len(messages))) {
		t.Errorf("%s: %+v", where, m)
	}
	if rest := messages[len(messages)-min(len(got), len(messages)):]; m.PossiblyLost > 0 &&
		len(got) > 0 && got[len(got)-1] != rest[len(rest)-1] {
		t.Errorf("%s: the last one is %q", where, got[len(got)-1])
	}
}
