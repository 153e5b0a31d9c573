// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// TestPublisher_ManyWriters_StoresEachOnce: with and without an end of the subject, with batches of one
// Writer and of all, and with IDs.
func TestPublisher_ManyWriters_StoresEachOnce(t *testing.T) {
	const writers, messages = 5, 3000
	rest := natsbridge.WithSubject(func(d *udsipc.Delivery) string { return "kind." + string(d.Data[len(d.Data)-1:]) })
	for name, opts := range map[string][]natsbridge.PublisherOption{
		"subject of the writer":  nil,
		"subject of the content": {rest},
		"message IDs":            {natsbridge.WithMessageIDs(), natsbridge.WithMaxBatch(100), natsbridge.WithMaxInFlight(2)},
	} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", shared ", shared), func(t *testing.T) {
				w := newWorld(t, 1, streamConfig(), nil)
				p := w.publisher(w.js, opts...)
				var reader []udsipc.ReaderOption
				if shared {
					reader = append(reader, udsipc.WithSharedBatches())
				}
				w.reads(p, reader...)
				var all sync.WaitGroup
				for range writers {
					all.Go(func() { w.send(w.writes(), 0, messages) })
				}
				all.Wait()
				w.wantOnce(writers, messages)
				m := p.Metrics()
				t.Logf("%+v", m)
				if m.Published != writers*messages || m.Skipped+m.Failed > 0 || m.Waiting != 0 {
					t.Errorf("%+v", m)
				}
				if len(w.states.all) > 0 {
					t.Errorf("%q", w.states.all)
				}
			})
		}
	}
}

// TestPublisher_Message_HasWriterAndPeer in its subject and its headers.
func TestPublisher_Message_HasWriterAndPeer(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	w.reads(w.publisher(w.js, natsbridge.WithHeader(natsbridge.PeerHeader)))
	w.send(w.writes(), 0, 1)
	m := w.all()[0]
	token := strings.TrimPrefix(m.subject, "events.")
	writer, seq, err := natsbridge.ParseMessageID(m.header.Get(nats.MsgIdHdr))
	if err != nil || writer != token || seq != 1 {
		t.Errorf("message ID of %s: %s, %d, %v", m.subject, writer, seq, err)
	}
	if m.header.Get("Udsipc-Pid") == "" || !strings.HasPrefix(token, m.header.Get("Udsipc-Uid")+"-") {
		t.Errorf("subject %s, headers %v", m.subject, m.header)
	}
}
