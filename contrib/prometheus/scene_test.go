// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

// What the tests share: one source of each kind, which have all done something.

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	udsipcprom "github.com/udsipc/udsipc/contrib/prometheus"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

// A scene is a Collector with sources, and its registry. The Writer "lonely" has no reader.
type scene struct {
	*testing.T
	collector *udsipcprom.Collector
	registry  *prometheus.Registry
	dir       string
	audit     *udsipc.Writer
	disk      *spool.Writer
	calls     *rpc.Client
	talk      *duplex.Client
}

var quiet = udsipc.WithLogger(slog.New(slog.DiscardHandler))

// starts starts something and closes it after the test.
func (s *scene) starts(x interface {
	Start() error
	io.Closer
}, errs ...error) {
	s.Helper()
	if err := errors.Join(errors.Join(errs...), x.Start()); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = x.Close() }) // That of "lonely" tells of its messages.
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name+".sock") }

// newScene returns a scene in which everything has happened once.
func newScene(t *testing.T) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("", "prom") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &scene{T: t, collector: udsipcprom.NewCollector(), registry: prometheus.NewPedanticRegistry(), dir: dir}
	s.registry.MustRegister(s.collector)
	s.addStreams()
	s.addSpool()
	s.addConversations()
	s.act()
	return s
}

// no wants no error.
func (s *scene) no(errs ...error) {
	s.Helper()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

var errBad = errors.New("bad message")

func (s *scene) addStreams() {
	reader, err := udsipc.NewDeliveryReader(s.collector.DeliveryHandler("ingest",
		func(_ context.Context, d *udsipc.Delivery) error {
			if string(d.Data) == "bad" {
				return errBad
			}
			return nil
		}), s.path("ingest"), udsipc.WithMaxRedeliveries(1), udsipc.WithDeadLetter(func(*udsipc.Delivery, error) {}), quiet)
	s.no(err)
	s.starts(reader)
	s.audit, err = udsipc.NewWriter(s.path("ingest"), udsipc.WithAcknowledgements(), quiet)
	s.no(err)
	s.starts(s.audit)
	lonely, err := udsipc.NewWriter(s.path("nobody"), udsipc.WithMaxBufferedWrites(2),
		udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithCloseTimeout(time.Millisecond), quiet)
	s.no(err)
	s.starts(lonely)
	for range 3 {
		s.no(lonely.WriteMessage([]byte("hello")))
	}
	s.no(s.collector.AddReader("ingest", reader), s.collector.AddWriter("audit", s.audit),
		s.collector.AddWriter("lonely", lonely))
}

func (s *scene) addSpool() {
	reader, err := udsipc.NewBatchReader(s.collector.BatchHandler("disk",
		func(context.Context, []udsipc.Delivery) error { return nil }), s.path("disk"), quiet)
	s.no(err)
	s.starts(reader)
	s.disk, err = spool.NewWriter(filepath.Join(s.dir, "spool"), s.path("disk"), spool.WithSync(0),
		spool.WithWriter(quiet))
	s.no(err)
	s.starts(s.disk)
	s.no(s.collector.AddSpool("disk", s.disk), s.collector.AddReader("disk", reader))
}

func (s *scene) addConversations() {
	talk, err := duplex.NewServer(s.path("talk"),
		func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error { return c.Send(m) }, quiet)
	s.no(err)
	s.starts(talk)
	s.talk, err = duplex.NewClient(s.path("talk"), quiet)
	s.no(err)
	s.starts(s.talk)

	server, err := rpc.NewServer(s.path("calls"), quiet)
	s.no(err)
	server.Use(s.collector.ServerCalls("orders"))
	server.UseStream(s.collector.ServerStreams("orders"))
	server.Handle("echo", func(_ context.Context, request []byte) ([]byte, error) { return request, nil })
	server.Handle("panic", func(context.Context, []byte) ([]byte, error) { panic("at the disco") })
	server.Handle("own", func(context.Context, []byte) ([]byte, error) { return nil, &rpc.Error{Code: 4711} })
	server.HandleStream("count", func(_ context.Context, stream *rpc.Stream) error { return stream.Send([]byte("1")) })
	s.starts(server)
	s.calls, err = rpc.NewClient(s.path("calls"), quiet)
	s.no(err)
	s.calls.Use(s.collector.ClientCalls("orders"))
	s.calls.UseStream(s.collector.ClientStreams("orders"))
	s.starts(s.calls)
	s.no(s.collector.AddDuplexServer("talk", talk), s.collector.AddDuplexClient("talk", s.talk),
		s.collector.AddRPCServer("orders", server), s.collector.AddRPCClient("orders", s.calls))
}

// act sends, calls, and waits until it has happened. It may be called again.
func (s *scene) act() {
	ctx := s.Context()
	s.no(s.audit.WriteMessage([]byte("good")), s.audit.WriteMessage([]byte("bad")), s.audit.Flush(ctx))
	s.no(s.disk.WriteMessage([]byte("kept")), s.disk.Flush(ctx))
	s.no(s.talk.Send(duplex.Message{Type: 1, Data: []byte("hi")}))
	_, err := s.talk.Receive(ctx)
	s.no(err)
	s.no(s.calls.Notify("echo", nil))
	_, err = s.calls.Call(ctx, "echo", []byte("x"))
	s.no(err)
	for method, code := range map[string]rpc.Code{"panic": rpc.CodePanic, "own": 4711} {
		if _, err := s.calls.Call(ctx, method, nil); rpc.CodeOf(err) != code {
			s.Errorf("%s: %v", method, err)
		}
	}
	stream, err := s.calls.OpenStream(ctx, "count", nil)
	s.no(err)
	for _, err := range stream.Messages() {
		s.no(err)
	}
	s.no(stream.Close())
	s.until("the stream is counted", func() bool {
		v, ok := s.value("udsipc_rpc_client_calls_total", "method", "count", "type", "stream")
		return ok && v > 0
	})
}

// until waits for something that happens on another goroutine.
func (s *scene) until(what string, happened func() bool) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for !happened() {
		if time.Now().After(deadline) {
			s.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// value returns the sum of the time series of a metric that have these labels: of a histogram its count.
func (s *scene) value(name string, labels ...string) (sum float64, found bool) {
	s.Helper()
	families, err := s.registry.Gather()
	s.no(err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			has := map[string]string{}
			for _, l := range m.GetLabel() {
				has[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if has[labels[i]] != labels[i+1] {
					continue series
				}
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum, found
}
