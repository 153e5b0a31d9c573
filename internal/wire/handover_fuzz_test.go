// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// handOverSeeds are what a Reader may leave for the next one.
func handOverSeeds() [][]byte {
	writer := wire.WriterSnapshot{
		Key: wire.WriterKey{Identity: "uid 0", Writer: wire.WriterID{1, 2, 3}}, Epoch: 2,
		Handled: 300, MaybeHandledThrough: 7, Idle: time.Minute,
	}
	session := wire.SessionSnapshot{
		Inode: 1 << 40, Writer: writer, Limit: 10 << 20, HeartbeatTimeout: 10 * time.Second,
		HeartbeatInterval: time.Second,
	}
	return [][]byte{
		(&wire.HandOverState{}).Encode(),
		(&wire.HandOverState{Writers: []wire.WriterSnapshot{writer}}).Encode(),
		(&wire.HandOverState{
			Writers:  []wire.WriterSnapshot{writer, {}},
			Sessions: []wire.SessionSnapshot{session, session},
		}).Encode(),
	}
}

// rewriteHandOverState reads what a Reader has left, and writes it again.
func rewriteHandOverState(b []byte) ([]byte, error) {
	s, err := wire.ParseHandOverState(b)
	return s.Encode(), err
}

func FuzzParseHandOverState(f *testing.F) {
	for _, seed := range handOverSeeds() {
		f.Add(seed)
	}
	f.Add([]byte{})
	f.Add(binary.AppendUvarint([]byte{1}, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := rewriteHandOverState(b)
		if err != nil {
			return
		}
		if third, err := rewriteHandOverState(again); err != nil || !slices.Equal(again, third) {
			t.Errorf("% x becomes % x becomes % x, %v", b, again, third, err)
		}
	})
}
