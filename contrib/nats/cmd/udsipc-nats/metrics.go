// SPDX-License-Identifier: Apache-2.0

package main

// This file serves the counters to Prometheus.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A metricsServer serves GET /metrics.
type metricsServer struct {
	http.Server
	addr net.Addr
}

// serveMetrics serves what snapshot returns at an address: HOST:PORT, or the path of a Unix socket.
func serveMetrics(address string, snapshot func() map[string]any) (*metricsServer, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	if network == "unix" {
		removeStale(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_ = writeMetrics(w, snapshot()) // The one who asks has gone.
	})
	s := &metricsServer{Server: http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, addr: l.Addr()}
	go func() { _ = s.Serve(l) }() // Ends with close.
	return s, nil
}

// removeStale removes the socket of a process that was killed.
func removeStale(path string) {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		_ = os.Remove(path)
	}
}

func (s *metricsServer) close() error { return s.Close() }

// snapshot returns the counters by the prefix of their names.
func (d *daemon) snapshot() map[string]any {
	all := make(map[string]any)
	nc := d.js.Conn()
	all["nats"] = map[string]any{"connected": nc.IsConnected(), "reconnects": nc.Stats().Reconnects}
	if d.reader != nil {
		all["reader"], all["publisher"] = d.reader.Metrics(), d.publisher.Metrics()
	}
	if d.forwarder != nil {
		all["forwarder"] = d.forwarder.Metrics()
	}
	return all
}

// gauges are the numbers that can fall, with their units. The others are counters.
var gauges = map[string]string{
	"nats_connected": "", "publisher_waiting": "", "forwarder_pending": "", "reader_connections": "",
	"reader_writer_states": "", "reader_read_memory": "_bytes", "reader_send_memory": "_bytes",
}

// writeMetrics writes all numbers in the text format of Prometheus. Their names are those in JSON, with _total if
// they are counters. What is no number is left out.
func writeMetrics(w io.Writer, all map[string]any) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	var values map[string]map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // A counter has more digits than a float64.
	if err := d.Decode(&values); err != nil {
		return err
	}
	for _, part := range slices.Sorted(maps.Keys(values)) {
		for _, field := range slices.Sorted(maps.Keys(values[part])) {
			if err := writeValue(w, part, field, values[part][field]); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeValue(w io.Writer, part, field string, value any) error {
	switch v := value.(type) {
	case bool:
		if value = 0; v {
			value = 1
		}
	case json.Number:
	default:
		return nil
	}
	kind, suffix := "counter", "_total"
	if unit, ok := gauges[part+"_"+field]; ok {
		kind, suffix = "gauge", unit
	}
	name := "udsipc_" + part + "_" + field + suffix
	_, err := fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s %[4]v\n",
		name, helps[part+"_"+field], kind, value)
	return err
}
