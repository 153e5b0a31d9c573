// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestMetrics_EachMoment_Add: each message is in one count, at every moment, also while messages are dropped.
func TestMetrics_EachMoment_Add(t *testing.T) {
	p := newPlace(t)
	w := p.open(small(udsipc.OverflowDropOldest)...)
	p.write(w, 0, 10)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = p.start(small(udsipc.OverflowDropOldest)...)
	r := p.read(udsipc.WithMaxMessageSize(1500))
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range 3000 {
			size := 500
			if i%100 == 0 {
				size = 2000 // The reader refuses it. Once that is known, so does the Writer.
			}
			_ = w.WriteMessage(make([]byte, size))
		}
	}()
	check := func() (m spool.Metrics) {
		m = w.Metrics()
		if m.Accepted+m.Found != m.Sent+m.Undelivered+m.Dropped+m.Expired+m.Damaged+m.Queued {
			t.Fatalf("%+v", m)
		}
		return m
	}
	for over := false; !over; check() {
		select {
		case <-written:
			over = true
		default:
		}
	}
	_ = w.Flush(limit(t))
	m := check()
	if m.Queued != 0 || m.Found != 10 || m.Accepted+m.TooLarge != 3000 {
		t.Errorf("%+v", m)
	}
	if got := uint64(len(r.all())); got < m.Sent || got > m.Sent+m.Dropped { // Some are dropped while they are sent.
		t.Errorf("the reader got %d messages: %+v", got, m)
	}
	text, err := json.Marshal(m)
	if err != nil || !strings.Contains(string(text), `"found":10,`) || !strings.Contains(string(text), `"sync_time":{`) {
		t.Errorf("%s, %v", text, err)
	}
}
