// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// Streams that cannot keep what a Publisher promises, and limits that do not matter.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

func kinds(d *udsipc.Delivery) string { return "kind" + string(d.Data[len(d.Data)-1:]) }

// TestPublisher_UnusableStream_IsReported, and nothing is published to it. A usable one in its place is found.
func TestPublisher_UnusableStream_IsReported(t *testing.T) {
	for report, change := range map[string]func(c *jetstream.StreamConfig){
		"is a mirror of OTHERS": func(c *jetstream.StreamConfig) {
			c.Mirror, c.Subjects, c.AllowAtomicPublish = &jetstream.StreamSource{Name: "OTHERS"}, nil, false
		},
		"is sealed":                    func(c *jetstream.StreamConfig) { c.Sealed = true },
		"does not allow atomic":        func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"acknowledges nothing (NoAck)": func(c *jetstream.StreamConfig) { c.NoAck = true },
		"has counters":                 func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true },
		"stores events.> under other subjects": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "events.*.kind1", Destination: "one.{{wildcard(1)}}"}
		},
		"has delete markers": func(c *jetstream.StreamConfig) {
			c.SubjectDeleteMarkerTTL, c.MaxAge = time.Minute, time.Hour
		},
	} {
		t.Run(report, func(t *testing.T) {
			w := newWorld(t, 1, jetstream.StreamConfig{Name: "OTHERS", Subjects: []string{"others.>"}}, nil)
			cfg := streamConfig()
			change(&cfg)
			var err error
			if cfg.Sealed { // It cannot begin so.
				cfg.Sealed = false
				w.stream, err = w.js.CreateStream(w.ctx, cfg)
				cfg.Sealed = true
			}
			if err == nil {
				w.stream, err = w.js.CreateOrUpdateStream(w.ctx, cfg)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := w.publisher(w.js, natsbridge.WithSubject(kinds))
			ended := make(chan error, 1)
			go func() { ended <- p.Handle(w.ctx, deliveries(1, 0, 10, false)) }() // Ends when the stream can be used.
			t.Log(w.await(report))
			if info, err := w.stream.Info(w.ctx); err != nil || info.State.LastSeq != 0 {
				t.Errorf("%+v, %v: want no messages", info, err)
			}
			if err := w.js.DeleteStream(w.ctx, "EVENTS"); err != nil {
				t.Fatal(err)
			}
			if w.stream, err = w.js.CreateStream(w.ctx, streamConfig()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			w.wantOnce(1, 10)
		})
	}
}

// TestPublisher_OtherSettings_KeepPromise: a stream that keeps only the last message of a subject still tells
// what it has had, and copies of messages under other subjects do not matter.
func TestPublisher_OtherSettings_KeepPromise(t *testing.T) {
	for _, subject := range []bool{false, true} {
		t.Run(fmt.Sprint("subject of the content ", subject), func(t *testing.T) {
			cfg := streamConfig()
			cfg.MaxMsgsPerSubject, cfg.DenyDelete, cfg.DenyPurge = 1, true, true
			cfg.RePublish = &jetstream.RePublish{Source: "events.>", Destination: "copies.>"}
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{
				Source: "others.*", Destination: "events.others.{{wildcard(1)}}",
			}
			cfg.Subjects = append(cfg.Subjects, "others.*")
			var opts []natsbridge.PublisherOption
			want := 1
			if subject {
				opts, want = append(opts, natsbridge.WithSubject(kinds)), 10
			}
			w := newWorld(t, 1, cfg, nil)
			w.handles(w.publisher(w.js, opts...), deliveries(1, 0, 15, false))
			next := w.publisher(w.js, opts...)
			w.handles(next, deliveries(1, 3, 25, true))
			if m := next.Metrics(); m.Published != 10 || m.Skipped != 12 || m.Failed != 0 {
				t.Errorf("%+v", m)
			}
			all := w.all()
			if len(all) != want || all[len(all)-1].data != "24" || !strings.HasPrefix(all[0].subject, "events.7-") {
				t.Errorf("%+v: want %d messages up to 24", all, want)
			}
		})
	}
}
