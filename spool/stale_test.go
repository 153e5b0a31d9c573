// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_GoneWhileReaderIsAway_NeverArrives: a message that has expired, or was dropped, while there was no
// connection is not sent although the Writer below had it.
func TestWriter_GoneWhileReaderIsAway_NeverArrives(t *testing.T) {
	for name, opts := range map[string][]spool.Option{
		"expired": {spool.WithMaxAge(300 * time.Millisecond)},
		"dropped": small(udsipc.OverflowDropOldest),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			away := make(chan struct{}, 100)
			r := p.read()
			w := p.start(append(opts, spool.WithWriter(udsipc.WithMaxBackoff(time.Millisecond),
				udsipc.WithStateCallback(func(state udsipc.State, _ error) {
					if state == udsipc.StateDisconnected {
						away <- struct{}{}
					}
				})))...)
			p.write(w, 0, 1)
			p.flush(w)
			r.end()
			<-away
			p.write(w, 1, 10)
			for m := w.Metrics(); m.Writer.Accepted < 10; m = w.Metrics() { // The Writer below has them.
				if m.Expired > 0 {
					t.Log("the machine is busy: they have expired before")
					return
				}
				time.Sleep(time.Millisecond)
			}
			if name == "dropped" {
				for range 70 {
					if err := w.WriteMessage(make([]byte, 1000)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for m := w.Metrics(); m.Expired+m.Dropped < 9; m = w.Metrics() {
				time.Sleep(time.Millisecond)
			}
			<-away // What the Writer below had is given up.
			r.start(p)
			p.write(w, 10, 11)
			if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
				t.Error(err)
			}
			late := w.Metrics().Expired > 9 // A busy machine.
			p.stop(w)
			got := r.all()
			for _, text := range numbers(1, 10) {
				if slices.Contains(got, text) {
					t.Errorf("message %s was dropped or has expired, and arrives", text)
				}
			}
			if !slices.Contains(got, "10") && !late {
				t.Error("message 10 is lost")
			}
		})
	}
}
