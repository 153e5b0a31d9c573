// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/udsipc/udsipc"
	udsipcprom "github.com/udsipc/udsipc/contrib/prometheus"
)

// A program with a Reader and a Writer, and its page for Prometheus.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.sock")

	registry := prometheus.NewRegistry() // Or prometheus.DefaultRegisterer, with promhttp.Handler.
	collector := udsipcprom.NewCollector()
	registry.MustRegister(collector)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	reader, err := udsipc.NewReader(collector.Handler("ingest", func(data []byte) error { return nil }), path)
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
	if err := collector.AddReader("ingest", reader); err != nil {
		log.Fatal(err)
	}
	if err := collector.AddWriter("audit", writer); err != nil {
		log.Fatal(err)
	}

	if err := writer.WriteMessage([]byte("hello")); err != nil {
		log.Print(err)
	}
	if err := writer.Flush(context.Background()); err != nil {
		log.Print(err)
	}
	server := httptest.NewServer(http.DefaultServeMux) // http.ListenAndServe, in a daemon.
	defer server.Close()
	page, err := http.Get(server.URL + "/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer page.Body.Close()
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "udsipc_writer_messages_sent_total") ||
			strings.HasPrefix(lines.Text(), "udsipc_reader_handler_duration_seconds_count") {
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// udsipc_reader_handler_duration_seconds_count{name="ingest"} 1
	// udsipc_writer_messages_sent_total{kind="writer",name="audit"} 1
}
