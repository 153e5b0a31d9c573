// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/udsipc/udsipc"
	udsipcprom "github.com/udsipc/udsipc/contrib/prometheus"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

// readme has the lines of README.md, so that they compile.
func readme(writer *udsipc.Writer, reader *udsipc.Reader, queue *spool.Writer, server *rpc.Server,
	client *rpc.Client) error {
	collector := udsipcprom.NewCollector()
	prometheus.MustRegister(collector)
	http.Handle("/metrics", promhttp.Handler())

	err := errors.Join(
		collector.AddWriter("audit", writer),
		collector.AddReader("ingest", reader), // Handler times: NewReader(collector.Handler("ingest", handler), …).
		collector.AddSpool("disk", queue),
		collector.AddRPCServer("orders", server),
		collector.AddRPCClient("orders", client),
	)
	server.Use(collector.ServerCalls("orders")) // Call times.
	client.Use(collector.ClientCalls("orders"))
	return err
}

// TestDocs_Code_IsThatOfReadme: the lines of code of the page are in the function above.
func TestDocs_Code_IsThatOfReadme(t *testing.T) {
	_ = readme
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, code, found := strings.Cut(string(text), "    collector := ")
		if !found {
			t.Errorf("%s has no code", page)
		}
		for line := range strings.Lines("    collector := " + code) {
			line, indented := strings.CutPrefix(line, "    ")
			if !indented && strings.TrimSpace(line) != "" {
				break
			}
			if !strings.Contains(string(source), strings.TrimSpace(line)+"\n") {
				t.Errorf("%s: %s", page, line)
			}
		}
	}
}
