// SPDX-License-Identifier: Apache-2.0

package main

// The text of the metrics, as Prometheus reads it.

import (
	"bytes"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// TestMetrics_Text_IsParsed by the parser of Prometheus, and keeps its conventions.
func TestMetrics_Text_IsParsed(t *testing.T) {
	var b bytes.Buffer
	err := writeMetrics(&b, map[string]any{
		"nats":   map[string]any{"connected": true, "reconnects": uint64(3), "nested": []int{1}},
		"reader": udsipc.ReaderMetrics{ReceivedBytes: 1 << 40}, "publisher": natsbridge.PublisherMetrics{Waiting: 7},
		"forwarder": natsbridge.ForwarderMetrics{Failed: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(helps) {
		t.Errorf("%d metrics, %d texts", len(families), len(helps))
	}
	for name, f := range families {
		kind := f.GetType()
		switch {
		case len(f.Metric) != 1 || f.GetHelp() == "":
			t.Errorf("%s: %d values, help %q", name, len(f.Metric), f.GetHelp())
		case kind != dto.MetricType_COUNTER && kind != dto.MetricType_GAUGE:
			t.Errorf("%s is a %v", name, kind)
		case strings.HasSuffix(name, "_total") != (kind == dto.MetricType_COUNTER):
			t.Errorf("%s is a %v", name, kind)
		case strings.Contains(name, "byte") && !strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_bytes"),
			strings.Contains(name, "milli"), strings.Contains(name, "micro"), strings.Contains(name, "nano"):
			t.Errorf("%s: want a base unit at the end", name)
		}
	}
	for name, want := range map[string]float64{
		"udsipc_nats_connected": 1, "udsipc_nats_reconnects_total": 3, "udsipc_publisher_waiting": 7,
		"udsipc_forwarder_failed_total": 2,
	} {
		f := families[name]
		if f == nil || f.Metric[0].GetCounter().GetValue()+f.Metric[0].GetGauge().GetValue() != want {
			t.Errorf("%s is %v: want %v", name, f, want)
		}
	}
}
