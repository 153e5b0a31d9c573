// SPDX-License-Identifier: Apache-2.0

package udsipcotel_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/udsipc/udsipc"
	udsipcotel "github.com/udsipc/udsipc/contrib/otel"
	"github.com/udsipc/udsipc/rpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"
)

// A program with a Reader and a Writer, and a collection of their metrics.
func ExampleMetrics() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")

	collection := metric.NewManualReader() // metric.NewPeriodicReader with an exporter, in a daemon.
	provider := metric.NewMeterProvider(metric.WithReader(collection))
	metrics, err := udsipcotel.NewMetrics(provider)
	if err != nil {
		log.Fatal(err)
	}
	defer metrics.Close()

	reader, err := udsipc.NewReader(metrics.Handler("ingest", func(data []byte) error { return nil }), path)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	writer, err := udsipc.NewWriter(path, udsipc.WithAcknowledgements())
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	if err := metrics.AddReader("ingest", reader); err != nil {
		log.Fatal(err)
	}
	if err := metrics.AddWriter("audit", writer); err != nil {
		log.Fatal(err)
	}

	if err := writer.WriteMessage([]byte("hello")); err != nil {
		log.Print(err)
	}
	if err := writer.Flush(context.Background()); err != nil {
		log.Print(err)
	}
	var collected metricdata.ResourceMetrics
	if err := collection.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if m.Name == "udsipc.writer.messages_sent" || m.Name == "udsipc.reader.messages_received" {
			fmt.Println(m.Name, m.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
		}
	}
	// Unordered output:
	// udsipc.writer.messages_sent 1
	// udsipc.reader.messages_received 1
}

// A call whose handler belongs to the trace of the caller.
func ExampleTracing() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")

	spans := tracetest.NewInMemoryExporter() // An exporter of OTLP, in a daemon.
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	tracing := udsipcotel.NewTracing(provider, propagation.TraceContext{})

	server, err := rpc.NewServer(path)
	if err != nil {
		log.Fatal(err)
	}
	server.Use(tracing.ServerCalls())
	server.Handle("trace", func(ctx context.Context, _ []byte) ([]byte, error) {
		return []byte(api.SpanContextFromContext(ctx).TraceID().String()), nil
	})
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := rpc.NewClient(path)
	if err != nil {
		log.Fatal(err)
	}
	client.Use(tracing.ClientCalls())
	if err := client.Start(); err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, span := provider.Tracer("orders").Start(context.Background(), "order")
	defer span.End()
	seen, err := client.Call(ctx, "trace", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same trace:", string(seen) == span.SpanContext().TraceID().String())
	// Output:
	// the same trace: true
}
