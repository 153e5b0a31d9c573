// SPDX-License-Identifier: Apache-2.0

package udsipcotel_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	udsipcotel "github.com/udsipc/udsipc/contrib/otel"
	"github.com/udsipc/udsipc/rpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// otelName is the rule of docs/METRICS.md.
func otelName(prometheus string) string {
	name := strings.TrimSuffix(prometheus, "_total")
	name = strings.TrimSuffix(strings.TrimSuffix(name, "_bytes"), "_seconds")
	for _, group := range []string{"udsipc_writer_", "udsipc_reader_", "udsipc_spool_", "udsipc_rpc_server_",
		"udsipc_rpc_client_"} {
		if rest, ok := strings.CutPrefix(name, group); ok {
			return strings.ReplaceAll(group, "_", ".") + rest
		}
	}
	return name
}

// TestDocs_Names_AreThoseOfPrometheus: each metric of docs/METRICS.md is there, and no other; an exporter to Prometheus
// gives them the names of the page.
func TestDocs_Names_AreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.sources()
	here, exported := w.collect(), map[string]bool{}
	families, err := w.registry.Gather()
	w.no(err)
	for _, family := range families {
		exported[family.GetName()] = true
	}
	told := 0
	for _, cell := range regexp.MustCompile("(?m)^\\| `(udsipc_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		told++
		if m, ok := here[otelName(cell[1])]; !ok || m.Description == "" || m.Unit == "" {
			t.Errorf("there is no %s (%s), or it has no unit", otelName(cell[1]), cell[1])
		}
		if !exported[cell[1]] {
			t.Errorf("%s is not exported to Prometheus", cell[1])
		}
	}
	if told != len(here) || told != len(exported) {
		t.Errorf("docs/METRICS.md has %d metrics, there are %d, exported are %d", told, len(here), len(exported))
	}
}

// metricsOf and tracingOf have the lines of README.md, so that they compile.
func metricsOf(provider metric.MeterProvider, writer *udsipc.Writer, reader *udsipc.Reader) error {
	metrics, err := udsipcotel.NewMetrics(provider)
	if err != nil {
		return err
	}
	err = errors.Join(metrics.AddWriter("audit", writer), metrics.AddReader("ingest", reader))
	return err
}

func tracingOf(provider trace.TracerProvider, server *rpc.Server, client *rpc.Client) {
	tracing := udsipcotel.NewTracing(provider, propagation.TraceContext{})
	server.Use(tracing.ServerCalls())
	server.UseStream(tracing.ServerStreams())
	client.Use(tracing.ClientCalls())
	client.UseStream(tracing.ClientStreams())
}

// TestDocs_Code_IsThatOfTests: the lines of code of the page are in the functions above.
func TestDocs_Code_IsThatOfTests(t *testing.T) {
	t.Parallel()
	_, _ = metricsOf, tracingOf
	source, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(text), "OpenTelemetry\n")
		lines := 0
		for line := range strings.Lines(section) {
			if code, ok := strings.CutPrefix(line, "    "); ok {
				lines++
				if !strings.Contains(string(source), "\t"+strings.ReplaceAll(code, "    ", "\t")) {
					t.Errorf("%s: %s", page, line)
				}
			}
		}
		if lines < 7 {
			t.Errorf("%s has %d lines of code", page, lines)
		}
	}
}
