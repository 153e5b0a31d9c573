// SPDX-License-Identifier: Apache-2.0

package udsipcotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	udsipcotel "github.com/udsipc/udsipc/contrib/otel"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

var quiet = udsipc.WithLogger(slog.New(slog.DiscardHandler))

// A world is one source of each kind, and a reader of their metrics.
type world struct {
	*testing.T
	metrics  *udsipcotel.Metrics
	reader   *metric.ManualReader
	registry *client.Registry // Of an exporter to Prometheus.
	dir      string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "otel") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{T: t, dir: dir}
	later := new(lateProducer)
	w.reader = metric.NewManualReader(metric.WithProducer(later))
	w.registry = client.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(w.registry), prometheus.WithProducer(later),
		prometheus.WithoutTargetInfo(), prometheus.WithoutScopeInfo())
	w.no(err)
	w.metrics, err = udsipcotel.NewMetrics(metric.NewMeterProvider(metric.WithReader(w.reader),
		metric.WithReader(exporter)))
	w.no(err)
	later.Producer = w.metrics.Producer()
	return w
}

// A lateProducer is set after the reader that needs it.
type lateProducer struct{ metric.Producer }

func (w *world) no(errs ...error) {
	w.Helper()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name+".sock") }

// starts starts something and closes it after the test.
func (w *world) starts(x interface {
	Start() error
	io.Closer
}) {
	w.Helper()
	w.no(x.Start())
	w.Cleanup(func() { _ = x.Close() }) // That of a Writer without a reader tells of its messages.
}

// collect returns the metrics by their names.
func (w *world) collect() map[string]metricdata.Metrics {
	w.Helper()
	var all metricdata.ResourceMetrics
	w.no(w.reader.Collect(context.Background(), &all))
	byName := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if _, twice := byName[m.Name]; twice {
				w.Errorf("%s is there twice", m.Name)
			}
			byName[m.Name] = m
		}
	}
	return byName
}

// sum returns the sum of the points with these attributes, such as "name=a kind=writer": of a histogram the count.
func sum(m metricdata.Metrics, want string) (total float64, points int) {
	add := func(set attribute.Set, value float64) {
		for _, pair := range strings.Fields(want) {
			key, text, _ := strings.Cut(pair, "=")
			if v, _ := set.Value(attribute.Key(key)); v.AsString() != text {
				return
			}
		}
		total, points = total+value, points+1
	}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Value))
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			if len(p.Exemplars) == 0 {
				add(p.Attributes, float64(p.Count))
			}
		}
	}
	return total, points
}

// sources adds one source of each kind, and has each do something.
func (w *world) sources() {
	reader, err := udsipc.NewReader(w.metrics.Handler("ingest", func([]byte) error { return nil }), w.path("ingest"),
		quiet)
	w.no(err)
	w.starts(reader)
	audit, err := udsipc.NewWriter(w.path("ingest"), udsipc.WithAcknowledgements(), quiet)
	w.no(err)
	w.starts(audit)
	lonely, err := udsipc.NewWriter(w.path("nobody"), udsipc.WithCloseTimeout(time.Millisecond), quiet)
	w.no(err)
	w.starts(lonely)
	disk, err := spool.NewWriter(filepath.Join(w.dir, "spool"), w.path("ingest"), spool.WithSync(0),
		spool.WithWriter(quiet))
	w.no(err)
	w.starts(disk)
	w.no(w.metrics.AddReader("ingest", reader), w.metrics.AddWriter("audit", audit),
		w.metrics.AddWriter("lonely", lonely), w.metrics.AddSpool("disk", disk))
	w.no(audit.WriteMessage([]byte("a")), audit.WriteMessage([]byte("b")), audit.Flush(w.Context()),
		lonely.WriteMessage([]byte("c")), disk.WriteMessage([]byte("d")), disk.Flush(w.Context()))

	talk, err := duplex.NewServer(w.path("talk"),
		func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error { return c.Send(m) }, quiet)
	w.no(err)
	w.starts(talk)
	talker, err := duplex.NewClient(w.path("talk"), quiet)
	w.no(err)
	w.starts(talker)
	w.no(w.metrics.AddDuplexServer("talk", talk), w.metrics.AddDuplexClient("talk", talker))
	w.no(talker.Send(duplex.Message{Type: 1, Data: []byte("hi")}))
	_, err = talker.Receive(w.Context())
	w.no(err)
	w.calls()
}

func (w *world) calls() {
	server, err := rpc.NewServer(w.path("calls"), quiet)
	w.no(err)
	server.Use(w.metrics.ServerCalls("orders"))
	server.UseStream(w.metrics.ServerStreams("orders"))
	server.Handle("echo", func(_ context.Context, request []byte) ([]byte, error) { return request, nil })
	server.Handle("panic", func(context.Context, []byte) ([]byte, error) { panic("at the disco") })
	server.HandleStream("count", func(_ context.Context, s *rpc.Stream) error { return s.Send([]byte("1")) })
	w.starts(server)
	client, err := rpc.NewClient(w.path("calls"), quiet)
	w.no(err)
	client.Use(w.metrics.ClientCalls("orders"))
	client.UseStream(w.metrics.ClientStreams("orders"))
	w.starts(client)
	w.no(w.metrics.AddRPCServer("orders", server), w.metrics.AddRPCClient("orders", client))
	w.no(client.Notify("echo", nil))
	_, err = client.Call(w.Context(), "echo", nil)
	w.no(err)
	if _, err := client.Call(w.Context(), "panic", nil); rpc.CodeOf(err) != rpc.CodePanic {
		w.Error(err)
	}
	stream, err := client.OpenStream(w.Context(), "count", nil)
	w.no(err)
	for _, err := range stream.Messages() {
		w.no(err)
	}
	w.no(stream.Close())
	deadline := time.Now().Add(time.Minute)
	for {
		if n, _ := sum(w.collect()["udsipc.rpc.client.calls"], "type=stream"); n > 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatal("the stream is not counted")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestMetrics_World_IsObserved: what has happened is in the metrics that stand for it.
func TestMetrics_World_IsObserved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sources()
	all := w.collect()
	for _, want := range []struct {
		metric, attributes string
		value              float64
	}{
		{"writer.messages_accepted", "name=audit kind=writer", 2},
		{"writer.messages_acknowledged", "name=audit", 2},
		{"writer.delivery_duration", "name=audit kind=writer", 2},
		{"writer.delivery_duration", "name=disk kind=spool", 1},
		{"writer.connected", "name=audit", 1},
		{"writer.connected", "name=lonely", 0},
		{"writer.queue_messages", "name=lonely", 1},
		{"writer.queue", "name=lonely", 2},
		{"writer.messages_dropped", "name=audit reason=expired", 0},
		{"writer.oldest_message_age", "name=audit", 0},
		{"reader.messages_received", "name=ingest kind=reader", 3},
		{"reader.handler_duration", "name=ingest", 3},
		{"spool.messages_sent", "name=disk kind=spool", 1},
		{"spool.queue_messages", "name=disk", 0},
		{"writer.messages_sent", "name=talk kind=duplex", 1},
		{"reader.messages_received", "name=talk kind=duplex", 1},
		{"rpc.server.calls", "name=orders method=echo type=call code=ok", 1},
		{"rpc.server.calls", "name=orders method=echo type=notification", 1},
		{"rpc.server.calls", "name=orders method=panic code=panic", 1},
		{"rpc.server.call_duration", "name=orders", 4},
		{"rpc.client.calls", "name=orders", 3},
		{"rpc.client.call_duration", "name=orders", 3},
		{"rpc.client.active_calls", "name=orders", 0},
		{"reader.connections", "name=orders kind=rpc", 1},
	} {
		if got, points := sum(all["udsipc."+want.metric], want.attributes); points == 0 || got != want.value {
			t.Errorf("%s{%s} is %v in %d points, want %v", want.metric, want.attributes, got, points, want.value)
		}
	}
	if age, _ := sum(all["udsipc.writer.oldest_message_age"], "name=lonely"); age <= 0 || age > 100 {
		t.Errorf("the oldest message waits for %v s", age)
	}
	if !w.metrics.Remove("audit") || w.metrics.Remove("audit") {
		t.Error("Remove does not report what there was")
	}
	if _, points := sum(w.collect()["udsipc.writer.messages_accepted"], "name=audit"); points > 0 {
		t.Error("a removed source is still there")
	}
	w.no(w.metrics.Close())
	if _, points := sum(w.collect()["udsipc.writer.messages_accepted"], ""); points > 0 {
		t.Error("sources are observed after Close")
	}
}

// fixed is a source with fixed metrics.
type fixed udsipc.WriterMetrics

func (f fixed) Metrics() udsipc.WriterMetrics { return udsipc.WriterMetrics(f) }

// TestProducer_Histogram_IsThatOfTheSummary: the counts between the bounds, and those above the last.
func TestProducer_Histogram_IsThatOfTheSummary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := udsipc.WriterMetrics{AckTime: udsipc.LatencySummary{Count: 50, SumSeconds: 1.5, Max: 30 * time.Second}}
	for i := range m.AckTime.Buckets {
		m.AckTime.Buckets[i] = uint64(2 * i)
	}
	w.no(w.metrics.AddWriter("a", fixed(m)), w.metrics.AddWriter("b", fixed(m)))
	points := w.collect()["udsipc.writer.delivery_duration"].Data.(metricdata.Histogram[float64]).DataPoints
	if len(points) != 2 {
		t.Fatalf("%d points", len(points))
	}
	p := points[1]
	if max, _ := p.Max.Value(); p.Count != 50 || p.Sum != 1.5 || max != 30 || len(p.BucketCounts) != len(p.Bounds)+1 {
		t.Errorf("%+v", p)
	}
	for i, n := range p.BucketCounts {
		want := uint64(2)
		switch i {
		case 0:
			want = 0
		case len(p.Bounds):
			want = 50 - uint64(2*(len(p.Bounds)-1))
		}
		if n != want {
			t.Errorf("bucket %d has %d, want %d", i, n, want)
		}
	}
}

// TestMetrics_Add_RejectsWhatIsNoSource, and what would be observed twice with the same attributes.
func TestMetrics_Add_RejectsWhatIsNoSource(t *testing.T) {
	t.Parallel()
	m := newWorld(t).metrics
	for i, test := range []struct{ got, want error }{
		{m.AddWriter("", fixed{}), udsipcotel.ErrName},
		{m.AddWriter("\xff", fixed{}), udsipcotel.ErrName},
		{m.AddWriter("a", nil), udsipcotel.ErrSource},
		{m.AddWriter("a", (*udsipc.Link)(nil)), udsipcotel.ErrSource},
		{m.AddReader("a", (*udsipc.Reader)(nil)), udsipcotel.ErrSource},
		{m.AddRPCClient("a", nil), udsipcotel.ErrSource},
		{m.AddWriter("a", fixed{}), nil},
		{m.AddWriter("a", fixed{}), udsipcotel.ErrExists},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("case %d: %v, want %v", i, test.got, test.want)
		}
	}
	var err error
	for i := range 1000 {
		err = m.AddWriter(fmt.Sprint(i), fixed{})
	}
	if !errors.Is(err, udsipcotel.ErrTooMany) {
		t.Error(err)
	}
}

// A panicking source has no metrics.
type panicking struct{}

func (panicking) Metrics() udsipc.WriterMetrics { panic("no metrics") }

// TestMetrics_PanickingSource_IsAnError of the collection, which has the metrics of the others.
func TestMetrics_PanickingSource_IsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.no(w.metrics.AddWriter("bad", panicking{}), w.metrics.AddWriter("good", fixed{}))
	var collected metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &collected); err == nil || !strings.Contains(err.Error(), "no metrics") {
		t.Error(err)
	}
	if len(collected.ScopeMetrics) == 0 {
		t.Error("nothing was collected")
	}
}
