// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"testing"
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
