// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/udsipc/udsipc"
)

func TestHandler_EachRecord_IsOneMessage(t *testing.T) {
	var out bytes.Buffer
	if err := demonstrate(&out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range bytes.Lines(out.Bytes()) {
		var record struct{ Msg string }
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, record.Msg)
	}
	if len(got) != 2 || got[0] != "started" || got[1] != "disk is filling up" {
		t.Errorf("got %q", got)
	}
}

func TestHandler_RefusedRecords_AreCounted(t *testing.T) {
	w, err := udsipc.NewWriter("/nonexistent/log.sock", udsipc.WithMaxBufferedWrites(1))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(newHandler(w, nil))
	for range 3 {
		logger.Info("nobody listens")
	}
	if m := w.Metrics(); m.Queued != 1 || m.Refused != 2 {
		t.Errorf("%+v, want 1 queued, 2 refused", m)
	}
}
