// SPDX-License-Identifier: Apache-2.0

package transport_test

// What a session's reader sends back, up to the queue of its writer.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// acknowledge hands b, which a reader sends after the welcome, to a queue of so many messages, of which so many are
// sent and the next is half sent. It returns how many were acknowledged, and how many are left.
func acknowledge(b []byte, messages, sent int) (acknowledged, left uint64, err error) {
	q := queue.New(queue.Limits{Messages: 1000, Bytes: 1 << 20, Acks: true})
	for range messages {
		if err := q.EnqueueAndWake([]byte("message")); err != nil {
			return 0, 0, err
		}
	}
	if taken := q.NextBatch(make([][]byte, 0, transport.MaxVector), transport.BatchSize); len(taken) > 0 {
		half := 0
		if sent < messages {
			half = 3
		}
		if _, err := q.MarkWritten(8*sent + half); err != nil {
			return 0, 0, err
		}
	}
	o := transport.NewOut(&pieceConn{pieces: [][]byte{wire.Welcome{Limit: 1}.Append(nil), b}}, time.Second)
	hooks := transport.HandshakeHooks{
		Acknowledge: q.Acknowledge, SlowAfter: time.Hour, Cancelled: func() bool { return false },
	}
	if _, err := o.SessionHandshake(someHello, hooks); err != nil {
		return 0, 0, fmt.Errorf("before the acknowledgements: %w", err)
	}
	o.ReadLoop(func() {})
	if err = o.CloseAndAccount(nil, nil).Cause; err == io.EOF {
		err = nil
	}
	counts, _ := q.Snapshot()
	if uint64(sent)-counts.Sent != counts.Unacknowledged {
		err = errors.Join(err, fmt.Errorf("%d unacknowledged, %d of %d sent are acknowledged",
			counts.Unacknowledged, counts.Sent, sent))
	}
	return counts.Sent, counts.Queued, err
}

// FuzzAcknowledgements hands what a reader may send back to the queue of a Writer that has sent some
// messages: whatever it is, no message leaves that was not sent, and none comes back.
func FuzzAcknowledgements(f *testing.F) {
	text, err := os.ReadFile("../../testdata/session.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []struct{ Bytes string }
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 10 {
		f.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, v := range vectors {
		f.Add(ipctest.Unhex(f, v.Bytes), uint8(5), uint8(3))
	}
	f.Add([]byte{1, 2, 0x80, 0, 5, 0}, uint8(9), uint8(6))
	f.Fuzz(func(t *testing.T, b []byte, messages, sent uint8) {
		sent = min(sent, messages)
		acknowledged, left, err := acknowledge(b, int(messages), int(sent))
		if err != nil && !errors.Is(err, udsipc.ErrInvalidSession) {
			t.Errorf("error %v", err)
		}
		if acknowledged > uint64(sent) || acknowledged+left != uint64(messages) {
			t.Errorf("%d acknowledged and %d left of %d messages, of which %d were sent", acknowledged, left, messages, sent)
		}
	})
}
