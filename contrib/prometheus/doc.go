// SPDX-License-Identifier: Apache-2.0

// Package udsipcprom has the metrics of udsipc for Prometheus. A Collector has those of any number of
// Writers, Readers, spools, and clients and servers of packages duplex and rpc:
//
//	collector := udsipcprom.NewCollector()
//	prometheus.MustRegister(collector)
//	collector.AddWriter("audit", writer)
//	collector.AddReader("ingest", reader)
//	http.Handle("/metrics", promhttp.Handler())
//
// Each source has the label name, which the program gives, and the label kind: writer, reader, spool,
// duplex or rpc. A scrape takes one snapshot of each source; between scrapes nothing is measured.
//
// What the library does not measure itself is measured where the program says so: handlers of a Reader
// (Collector.Handler, DeliveryHandler, BatchHandler), and calls and streams of package rpc (ServerCalls,
// ServerStreams, ClientCalls, ClientStreams). That costs about 300 ns each.
//
// docs/METRICS.md has all metrics, with what to do when one of them says that something is wrong.
// dashboard.json is a dashboard for Grafana, alerts.yml has rules for Prometheus.
package udsipcprom
