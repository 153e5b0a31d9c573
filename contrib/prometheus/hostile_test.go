// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	udsipcprom "github.com/udsipc/udsipc/contrib/prometheus"
	"github.com/udsipc/udsipc/rpc"
)

// A panicking source has no metrics.
type panicking struct{}

func (panicking) Metrics() udsipc.WriterMetrics { panic("no metrics") }

// TestCollector_PanickingSource_IsAnError of the scrape, which has the metrics of the others.
func TestCollector_PanickingSource_IsAnError(t *testing.T) {
	t.Parallel()
	c := udsipcprom.NewCollector()
	if err := c.AddWriter("bad", panicking{}); err != nil {
		t.Fatal(err)
	}
	if err := c.AddWriter("good", fixed{}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err == nil || !strings.Contains(err.Error(), "no metrics") {
		t.Error(err)
	}
	if len(families) == 0 {
		t.Error("the other source has no metrics")
	}
}

// TestCollector_InvalidText_IsReplaced: a label that is no UTF-8 would panic, in a goroutine of its own for a stream.
func TestCollector_InvalidText_IsReplaced(t *testing.T) {
	t.Parallel()
	c := udsipcprom.NewCollector()
	if err := c.Handler("\xff", func([]byte) error { return nil })(nil); err != nil {
		t.Error(err)
	}
	server := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	if _, err := c.ServerCalls("\xff")(server)(t.Context(), nil); err != nil {
		t.Error(err)
	}
	client := func(context.Context, string, []byte) ([]byte, error) { return nil, nil }
	if _, err := c.ClientCalls("\xff")(client)(t.Context(), "\xff", nil); err != nil {
		t.Error(err)
	}
	open := func(context.Context, string, []byte) (*rpc.ClientStream, error) { return nil, context.Canceled }
	if _, err := c.ClientStreams("\xff")(open)(t.Context(), "\xff", nil); err == nil {
		t.Error("no error")
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 5 {
		t.Errorf("%d families, %v", len(families), err)
	}
}
