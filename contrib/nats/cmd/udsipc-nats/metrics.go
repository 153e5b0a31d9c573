// SPDX-License-Identifier: Apache-2.0

package main

// This file serves the counters to Prometheus.

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
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

// writeMetrics writes all numbers in the text format of Prometheus. Their names are those in JSON.
func writeMetrics(w io.Writer, all map[string]any) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	var values map[string]any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber() // A counter has more digits than a float64.
	if err := d.Decode(&values); err != nil {
		return err
	}
	return writeValue(w, "udsipc", values)
}

func writeValue(w io.Writer, name string, value any) (err error) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err = writeValue(w, name+"_"+key, v[key]); err != nil {
				return err
			}
		}
	case json.Number:
		_, err = fmt.Fprintf(w, "%s %s\n", name, v)
	case bool:
		number := 0
		if v {
			number = 1
		}
		_, err = fmt.Fprintf(w, "%s %d\n", name, number)
	}
	return err
}
