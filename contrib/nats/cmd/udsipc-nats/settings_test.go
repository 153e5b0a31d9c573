// SPDX-License-Identifier: Apache-2.0

package main

// The flags, and the text of the metrics.

import (
	"bytes"
	"flag"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

func TestParse_Environment_IsBehindFlags(t *testing.T) {
	environment := map[string]string{
		"UDSIPC_NATS_STREAM": "S", "UDSIPC_NATS_PREFIX": "p", "UDSIPC_NATS_ACK_TIMEOUT": "3s",
		"UDSIPC_NATS_PEER_HEADER": "true",
	}
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	s, err := parse([]string{"-prefix", "q"}, lookup, io.Discard)
	if err != nil || s.stream != "S" || s.prefix != "q" || s.ackTimeout != 3*time.Second || !s.peerHeader {
		t.Errorf("%+v, %v", s, err)
	}
	none := func(string) (string, bool) { return "", false }
	for arguments, want := range map[string]string{
		"":                      "-stream is missing",
		"-stream S":             "nothing to do",
		"-stream S -consumer c": "want -consumer and -to",
		"-stream S -prefix p x": "unknown arguments",

		"-stream S -prefix p -failures /f":     "-failures and -dead-letters are for -consumer",
		"-stream S -prefix p -stop-timeout 0s": "-stop-timeout 0s: want more than 0",
		"-stream S -prefix p -mode 0999":       "want permissions in octal",
		"-stream S -prefix p -tls-key k":       "want -tls-cert and -tls-key",
		"-bogus":                               "-bogus",
	} {
		if _, err := parse(strings.Fields(arguments), none, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v: want %q", arguments, err, want)
		}
	}
	environment["UDSIPC_NATS_ACK_TIMEOUT"] = "x"
	if _, err := parse(nil, lookup, io.Discard); err == nil ||
		!strings.Contains(err.Error(), `UDSIPC_NATS_ACK_TIMEOUT="x"`) {
		t.Error(err)
	}
	if s, err := parse([]string{"-ack-timeout", "4s", "-mode", "660"}, lookup, io.Discard); err != nil ||
		s.ackTimeout != 4*time.Second || s.mode != 0o660 {
		t.Errorf("%+v, %v: want 4s, 0660: a flag is there, and its variable does not matter", s, err)
	}
	for flags, want := range map[string]string{"-help": "(default 0600)", "-version": "udsipc-nats "} {
		var out bytes.Buffer
		if _, err := parse([]string{flags}, lookup, &out); err != flag.ErrHelp || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %s: want %q", flags, err, &out, want)
		}
	}
}

// TestMetrics_Gauges_AreFields: a field that has another name now would be a counter.
func TestMetrics_Gauges_AreFields(t *testing.T) {
	var b bytes.Buffer
	err := writeMetrics(&b, map[string]any{"nats": map[string]any{"connected": false}, "reader": udsipc.ReaderMetrics{},
		"publisher": natsbridge.PublisherMetrics{}, "forwarder": natsbridge.ForwarderMetrics{}})
	if err != nil {
		t.Error(err)
	}
	for name, unit := range gauges {
		if want := "\n# TYPE udsipc_" + name + unit + " gauge\n"; !strings.Contains(b.String(), want) {
			t.Errorf("no %q", want)
		}
	}
}

// TestMetrics_SocketOfKilledProcess_IsReplaced, but not that of a running one.
func TestMetrics_SocketOfKilledProcess_IsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := serveMetrics(path, func() map[string]any { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if other, err := serveMetrics(path, nil); err == nil {
		other.close()
		t.Error("the socket of a running process was taken")
	}
}

func TestMetrics_Numbers_HaveNames(t *testing.T) {
	var b bytes.Buffer
	err := writeMetrics(&b, map[string]any{"nats": map[string]any{"connected": true, "reconnects": uint64(1 << 60)},
		"reader": udsipc.ReaderMetrics{Received: 7}})
	text := b.String()
	for _, want := range []string{"udsipc_nats_connected 1\n", "udsipc_nats_reconnects_total 1152921504606846976\n",
		"# TYPE udsipc_reader_received_total counter\nudsipc_reader_received_total 7\n"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%q, %v: want %q", text, err, want)
		}
	}
}
