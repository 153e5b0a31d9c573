// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	udsipcprom "github.com/udsipc/udsipc/contrib/prometheus"
	"github.com/udsipc/udsipc/rpc"
)

// TestCollector_Scene_IsCounted: what has happened is in the metrics that stand for it, and in no other.
func TestCollector_Scene_IsCounted(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, want := range []struct {
		metric string
		labels string
		value  float64
	}{
		{"writer_messages_accepted_total", "name=audit kind=writer", 2},
		{"writer_messages_acknowledged_total", "name=audit", 2},
		{"writer_delivery_duration_seconds", "name=audit", 2},
		{"writer_oldest_message_age_seconds", "name=audit", 0},
		{"writer_connected", "name=audit", 1},
		{"writer_connected", "name=lonely", 0},
		{"writer_queue_messages", "name=lonely", 2},
		{"writer_messages_dropped_total", "name=lonely reason=overflow", 1},
		{"writer_messages_dropped_total", "name=lonely", 1},
		{"reader_messages_received_total", "name=ingest kind=reader", 2},
		{"reader_handler_failures_total", "name=ingest reason=error", 1},
		{"reader_handler_failures_total", "name=ingest reason=panic", 0},
		{"reader_dead_letters_total", "name=ingest", 1},
		{"reader_handler_duration_seconds", "name=ingest", 3},
		{"reader_handler_duration_seconds", "name=disk", 1},
		{"reader_batches_total", "name=disk", 1},
		{"spool_messages_sent_total", "name=disk kind=spool", 1},
		{"writer_messages_sent_total", "name=disk kind=spool", 1},
		{"spool_queue_messages", "name=disk", 0},
		{"writer_messages_sent_total", "name=talk kind=duplex", 1},
		{"reader_messages_received_total", "name=talk kind=duplex", 1},
		{"rpc_server_calls_total", "name=orders method=echo type=call code=ok", 1},
		{"rpc_server_calls_total", "name=orders method=echo type=notification code=ok", 1},
		{"rpc_server_calls_total", "name=orders method=panic code=panic", 1},
		{"rpc_server_calls_total", "name=orders method=own code=application", 1},
		{"rpc_server_calls_total", "name=orders method=count type=stream code=ok", 1},
		{"rpc_client_calls_total", "name=orders method=panic code=panic", 1},
		{"rpc_client_calls_total", "name=orders type=stream code=ok", 1},
		{"rpc_client_calls_total", "name=orders", 4},
		{"rpc_server_call_duration_seconds", "name=orders", 5},
		{"rpc_client_call_duration_seconds", "name=orders", 4},
		{"rpc_client_active_calls", "name=orders kind=rpc", 0},
		{"reader_connections", "name=orders kind=rpc", 1},
	} {
		labels := strings.FieldsFunc(want.labels, func(r rune) bool { return r == ' ' || r == '=' })
		if got, found := s.value("udsipc_"+want.metric, labels...); !found || got != want.value {
			t.Errorf("%s{%s} is %v (found: %v), want %v", want.metric, want.labels, got, found, want.value)
		}
	}
	before, _ := s.value("udsipc_writer_oldest_message_age_seconds", "name", "lonely")
	s.until("the oldest message of the writer without a reader grows older", func() bool {
		age, _ := s.value("udsipc_writer_oldest_message_age_seconds", "name", "lonely")
		return before > 0 && age > before
	})
}

// fixed is a source with fixed metrics.
type fixed udsipc.WriterMetrics

func (f fixed) Metrics() udsipc.WriterMetrics { return udsipc.WriterMetrics(f) }

// TestCollector_Histogram_IsThatOfTheSummary: count, sum and the cumulative buckets.
func TestCollector_Histogram_IsThatOfTheSummary(t *testing.T) {
	t.Parallel()
	m := udsipc.WriterMetrics{AckTime: udsipc.LatencySummary{Count: 9, SumSeconds: 1.5}}
	for i := range m.AckTime.Buckets {
		m.AckTime.Buckets[i] = uint64(i / 3)
	}
	c := udsipcprom.NewCollector()
	if err := c.AddWriter("w", fixed(m)); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "udsipc_writer_delivery_duration_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 9 || h.GetSampleSum() != 1.5 || len(h.GetBucket()) != len(m.AckTime.Buckets) {
			t.Errorf("%v", h)
		}
		for i, b := range h.GetBucket() {
			if b.GetCumulativeCount() != uint64(i/3) || b.GetUpperBound() != udsipc.LatencyBound(i).Seconds() {
				t.Errorf("bucket %d: %v", i, b)
			}
		}
		return
	}
	t.Error("no histogram")
}

// TestCollector_Add_RejectsWhatIsNoSource, and what would be two time series with the same labels.
func TestCollector_Add_RejectsWhatIsNoSource(t *testing.T) {
	t.Parallel()
	c := udsipcprom.NewCollector(udsipcprom.WithMaxSources(2))
	server, err := rpc.NewServer("/run/none.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for i, test := range []struct{ got, want error }{
		{c.AddWriter("", fixed{}), udsipcprom.ErrName},
		{c.AddWriter("\xff", fixed{}), udsipcprom.ErrName},
		{c.AddWriter("a", nil), udsipcprom.ErrSource},
		{c.AddWriter("a", (*udsipc.Link)(nil)), udsipcprom.ErrSource},
		{c.AddReader("a", (*udsipc.Reader)(nil)), udsipcprom.ErrSource},
		{c.AddSpool("a", nil), udsipcprom.ErrSource},
		{c.AddWriter("a", fixed{}), nil},
		{c.AddWriter("a", fixed{}), udsipcprom.ErrExists},
		{c.AddRPCServer("a", server), nil}, // Of another kind.
		{c.AddWriter("b", fixed{}), udsipcprom.ErrTooMany},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("case %d: %v, want %v", i, test.got, test.want)
		}
	}
	if !c.Remove("a") || c.Remove("a") {
		t.Error("Remove does not report what there was")
	}
	if err := c.AddWriter("b", fixed{}); err != nil {
		t.Error(err)
	}
}

// TestCollector_Remove_RemovesMeasurements of handlers and calls.
func TestCollector_Remove_RemovesMeasurements(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, name := range []string{"orders", "ingest", "disk"} {
		if !s.collector.Remove(name) {
			t.Errorf("there was no %s", name)
		}
	}
	for _, metric := range []string{"rpc_server_calls_total", "reader_handler_duration_seconds", "spool_segments"} {
		if value, found := s.value("udsipc_" + metric); found {
			t.Errorf("%s is still there: %v", metric, value)
		}
	}
}

// TestCollector_Options_Invalid_Panic with an error that names the option.
func TestCollector_Options_Invalid_Panic(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]udsipcprom.Option{
		"WithMaxSources": udsipcprom.WithMaxSources(0), "WithMaxMethods": udsipcprom.WithMaxMethods(-1),
		"WithBuckets": udsipcprom.WithBuckets(1, 1),
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, udsipcprom.ErrOption) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: %v", name, err)
				}
			}()
			udsipcprom.NewCollector(option)
		}()
	}
}

// TestCollector_Methods_AreBounded: further ones share a label.
func TestCollector_Methods_AreBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	c := udsipcprom.NewCollector(udsipcprom.WithMaxMethods(2), udsipcprom.WithBuckets(1))
	s.registry = prometheus.NewPedanticRegistry()
	s.registry.MustRegister(c)
	calls, err := rpc.NewClient(s.path("calls"), quiet)
	s.no(err)
	calls.Use(c.ClientCalls("many"))
	s.starts(calls)
	for i := range 10 {
		if _, err := calls.Call(t.Context(), fmt.Sprint("m", i%5), nil); rpc.CodeOf(err) != rpc.CodeUnknownMethod {
			t.Error(err)
		}
	}
	for method, want := range map[string]float64{"m0": 2, "m1": 2, "other": 6} {
		if got, _ := s.value("udsipc_rpc_client_calls_total", "method", method, "code", "unknown method"); got != want {
			t.Errorf("%s: %v calls, want %v", method, got, want)
		}
	}
}

// TestCollector_Scrapes_Concurrent while sources come and go.
func TestCollector_Scrapes_Concurrent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	done := make(chan struct{})
	go func() { // Ends after its loop.
		defer close(done)
		for i := range 200 {
			name := fmt.Sprint("w", i%3)
			_ = s.collector.AddWriter(name, s.audit)
			s.collector.Remove(name)
		}
	}()
	for range 50 {
		if _, err := s.registry.Gather(); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}

// BenchmarkHandler is what Handler adds to a message.
func BenchmarkHandler(b *testing.B) {
	h := udsipcprom.NewCollector().Handler("ingest", func([]byte) error { return nil })
	for b.Loop() {
		_ = h(nil)
	}
}

// BenchmarkScrape is a scrape of ten Writers.
func BenchmarkScrape(b *testing.B) {
	c := udsipcprom.NewCollector()
	for i := range 10 {
		w, err := udsipc.NewWriter("/run/none.sock", udsipc.WithAcknowledgements(), udsipc.WithCloseTimeout(time.Nanosecond))
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		if err := c.AddWriter(fmt.Sprint(i), w); err != nil {
			b.Fatal(err)
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
