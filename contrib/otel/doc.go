// SPDX-License-Identifier: Apache-2.0

// Package udsipcotel has the metrics of udsipc for OpenTelemetry, and traces calls of package rpc. Metrics has those of
// any number of Writers, Readers, spools, and clients and servers of packages duplex and rpc:
//
//	metrics, err := udsipcotel.NewMetrics(otel.GetMeterProvider())
//	if err != nil {
//		return err
//	}
//	err = metrics.AddWriter("audit", writer)
//	err = metrics.AddReader("ingest", reader)
//
// Each source has the attribute name, which the program gives, and the attribute kind: writer, reader, spool, duplex or
// rpc. A collection takes one snapshot of each source; between collections nothing is measured. Handlers, calls and
// streams are measured where the program says so. Nothing has exemplars.
//
// Tracing continues the trace of a caller in the handler of a call:
//
//	tracing := udsipcotel.NewTracing(otel.GetTracerProvider(), otel.GetTextMapPropagator())
//	server.Use(tracing.ServerCalls())
//	client.Use(tracing.ClientCalls())
//
// docs/METRICS.md has all metrics.
package udsipcotel
