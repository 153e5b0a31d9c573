// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file has the sources, and what is done for each collection.

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// scope is the name of the instrumentation.
const scope = "github.com/udsipc/udsipc/contrib/otel"

// Values of the attribute kind.
const (
	kindWriter = "writer"
	kindReader = "reader"
	kindSpool  = "spool"
	kindDuplex = "duplex"
	kindRPC    = "rpc"
)

// Limits of the number of time series.
const (
	maxSources = 1000
	maxMethods = 200 // With names of their own; the others are "other".
)

// Errors of the methods that add a source.
var (
	ErrName    = errors.New("udsipcotel: not a name")         // It is empty, or not UTF-8.
	ErrExists  = errors.New("udsipcotel: name exists")        // There is a source of this kind with the name.
	ErrTooMany = errors.New("udsipcotel: too many sources")   // There are 1,000.
	ErrSource  = errors.New("udsipcotel: there is no source") // The source is nil.
)

// A WriterSource is a *udsipc.Writer or a *udsipc.Link.
type WriterSource interface{ Metrics() udsipc.WriterMetrics }

// A ReaderSource is a *udsipc.Reader or a *udsipc.Listener.
type ReaderSource interface{ Metrics() udsipc.ReaderMetrics }

// Metrics observes its sources with asynchronous instruments. NewMetrics creates it. Sources may be added and removed
// at any time. All methods are safe for concurrent use.
type Metrics struct {
	writers  table[udsipc.WriterMetrics]
	readers  table[udsipc.ReaderMetrics]
	spools   table[spool.Metrics]
	servers  table[rpc.ServerMetrics]
	clients  table[rpc.ClientMetrics]
	measured measured
	began    time.Time
	callback metric.Registration

	mu      sync.Mutex // Guards sources.
	sources []source
}

// A source is what the program has added.
type source struct {
	role, kind, name string // One of each exists once.
	observe          func(o metric.Observer, attributes []attribute.KeyValue)
	// histograms returns those of the source by their names; nil: it has none.
	histograms func(attributes []attribute.KeyValue, now time.Time) []metricdata.Metrics
}

func (s source) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("kind", s.kind), attribute.String("name", s.name)}
}

// NewMetrics returns Metrics without sources, with instruments of provider. Close ends it.
func NewMetrics(provider metric.MeterProvider) (*Metrics, error) {
	m := &Metrics{
		writers: writerTable(), readers: readerTable(), spools: spoolTable(), servers: serverTable(),
		clients: clientTable(), began: time.Now(),
	}
	meter := provider.Meter(scope)
	var all []metric.Observable
	var errs []error
	for _, create := range []func(metric.Meter) ([]metric.Observable, error){
		m.writers.create, m.readers.create, m.spools.create, m.servers.create, m.clients.create,
	} {
		created, err := create(meter)
		all, errs = append(all, created...), append(errs, err)
	}
	errs = append(errs, m.measured.create(meter))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	m.callback, err = meter.RegisterCallback(m.observe, all...)
	return m, err
}

// Close ends the observation of all sources.
func (m *Metrics) Close() error { return m.callback.Unregister() }

// observe is called for each collection.
func (m *Metrics) observe(_ context.Context, o metric.Observer) error {
	var errs []error
	for _, s := range m.snapshot() {
		errs = append(errs, s.safely(func() { s.observe(o, s.attributes()) }))
	}
	return errors.Join(errs...)
}

// safely calls f, and returns its panic as an error: it must not end the process.
func (s source) safely(f func()) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("udsipcotel: Metrics of the %s %q has panicked: %v", s.kind, s.name, cause)
		}
	}()
	f()
	return nil
}

func (m *Metrics) snapshot() []source {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sources)
}

// AddWriter adds a Writer or a Link. As all methods that add something, it returns an error that matches ErrName,
// ErrExists, ErrTooMany or ErrSource.
func (m *Metrics) AddWriter(name string, w WriterSource) error {
	return m.add("AddWriter", isNil(w), source{"writer", kindWriter, name,
		func(o metric.Observer, a []attribute.KeyValue) { m.writers.observe(o, w.Metrics(), a) },
		func(a []attribute.KeyValue, now time.Time) []metricdata.Metrics {
			return m.writers.produce(w.Metrics(), a, m.began, now)
		}})
}

// AddReader adds a Reader or a Listener.
func (m *Metrics) AddReader(name string, r ReaderSource) error {
	return m.add("AddReader", isNil(r), source{"reader", kindReader, name,
		func(o metric.Observer, a []attribute.KeyValue) { m.readers.observe(o, r.Metrics(), a) }, nil})
}

// AddSpool adds a Writer of package spool, with the metrics of its connections.
func (m *Metrics) AddSpool(name string, w *spool.Writer) error {
	return m.add("AddSpool", w == nil, source{"writer", kindSpool, name,
		func(o metric.Observer, a []attribute.KeyValue) {
			snapshot := w.Metrics()
			m.spools.observe(o, snapshot, a)
			m.writers.observe(o, snapshot.Writer, a)
		},
		func(a []attribute.KeyValue, now time.Time) []metricdata.Metrics {
			snapshot := w.Metrics()
			return append(m.spools.produce(snapshot, a, m.began, now), m.writers.produce(snapshot.Writer, a, m.began, now)...)
		}})
}

// AddDuplexClient adds a Client of package duplex.
func (m *Metrics) AddDuplexClient(name string, c *duplex.Client) error {
	return m.add("AddDuplexClient", c == nil, source{"writer", kindDuplex, name,
		func(o metric.Observer, a []attribute.KeyValue) { m.writers.observe(o, c.Metrics(), a) }, nil})
}

// AddDuplexServer adds a Server of package duplex.
func (m *Metrics) AddDuplexServer(name string, s *duplex.Server) error {
	return m.add("AddDuplexServer", s == nil, source{"reader", kindDuplex, name,
		func(o metric.Observer, a []attribute.KeyValue) { m.readers.observe(o, s.Metrics(), a) }, nil})
}

// AddRPCClient adds a Client of package rpc. ClientCalls and ClientStreams measure its calls.
func (m *Metrics) AddRPCClient(name string, c *rpc.Client) error {
	return m.add("AddRPCClient", c == nil, source{"writer", kindRPC, name,
		func(o metric.Observer, a []attribute.KeyValue) {
			snapshot := c.Metrics()
			m.clients.observe(o, snapshot, a)
			m.writers.observe(o, snapshot.WriterMetrics, a)
		}, nil})
}

// AddRPCServer adds a Server of package rpc. ServerCalls and ServerStreams measure its calls.
func (m *Metrics) AddRPCServer(name string, s *rpc.Server) error {
	return m.add("AddRPCServer", s == nil, source{"reader", kindRPC, name,
		func(o metric.Observer, a []attribute.KeyValue) {
			snapshot := s.Metrics()
			m.servers.observe(o, snapshot, a)
			m.readers.observe(o, snapshot.ReaderMetrics, a)
		}, nil})
}

func (m *Metrics) add(method string, missing bool, s source) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case missing:
		return fmt.Errorf("%w: %s(%q)", ErrSource, method, s.name)
	case s.name == "" || !utf8.ValidString(s.name):
		return fmt.Errorf("%w: %s(%q)", ErrName, method, s.name)
	case slices.ContainsFunc(m.sources, s.is):
		return fmt.Errorf("%w: %s(%q)", ErrExists, method, s.name)
	case len(m.sources) >= maxSources:
		return fmt.Errorf("%w: %s(%q): %d", ErrTooMany, method, s.name, maxSources)
	}
	m.sources = append(m.sources, s)
	return nil
}

// isNil reports whether a source is nil, or a nil pointer.
func isNil(s any) bool {
	v := reflect.ValueOf(s)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// is reports whether two sources have the same attributes.
func (s source) is(other source) bool {
	return s.role == other.role && s.kind == other.kind && s.name == other.name
}

// Remove removes all sources with a name. It reports whether there was one.
func (m *Metrics) Remove(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.sources)
	m.sources = slices.DeleteFunc(m.sources, func(s source) bool { return s.name == name })
	return len(m.sources) < before
}
