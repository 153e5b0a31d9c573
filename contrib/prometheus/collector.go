// SPDX-License-Identifier: Apache-2.0

package udsipcprom

// This file is the Collector: its sources, and what it does for each scrape.

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

// Values of the label kind.
const (
	kindWriter = "writer"
	kindReader = "reader"
	kindSpool  = "spool"
	kindDuplex = "duplex"
	kindRPC    = "rpc"
)

// defaultMaxSources is the default of WithMaxSources.
const defaultMaxSources = 1000

// Errors of the methods that add a source.
var (
	ErrName    = errors.New("udsipcprom: not a name")          // It is empty, or not UTF-8.
	ErrExists  = errors.New("udsipcprom: name exists")         // There is a source of this kind with the name.
	ErrTooMany = errors.New("udsipcprom: too many sources")    // WithMaxSources.
	ErrSource  = errors.New("udsipcprom: there is no source")  // The source is nil.
	ErrOption  = errors.New("udsipcprom: option out of range") // An option of NewCollector.
)

// A WriterSource is a *udsipc.Writer or a *udsipc.Link.
type WriterSource interface{ Metrics() udsipc.WriterMetrics }

// A ReaderSource is a *udsipc.Reader or a *udsipc.Listener.
type ReaderSource interface{ Metrics() udsipc.ReaderMetrics }

// A Collector is a prometheus.Collector of the metrics of its sources. NewCollector creates it. Sources may be added
// and removed at any time. All methods are safe for concurrent use.
type Collector struct {
	maxSources int
	writers    table[udsipc.WriterMetrics]
	readers    table[udsipc.ReaderMetrics]
	spools     table[spool.Metrics]
	servers    table[rpc.ServerMetrics]
	clients    table[rpc.ClientMetrics]
	measured   *measured

	mu      sync.Mutex // Guards sources.
	sources []source
}

// A source is what the program has added.
type source struct {
	role, kind, name string // One of each exists once.
	collect          func(ch chan<- prometheus.Metric)
}

// An Option configures a Collector.
type Option func(c *config)

type config struct {
	maxSources, maxMethods int
	buckets                []float64
}

// WithMaxSources limits the number of sources, and so that of time series. The default is 1,000.
func WithMaxSources(n int) Option { return func(c *config) { c.maxSources = n } }

// WithMaxMethods limits how many methods of package rpc have time series of their own. The calls of further ones have
// the label method="other". The default is 200.
func WithMaxMethods(n int) Option { return func(c *config) { c.maxMethods = n } }

// WithBuckets sets the bounds of the histograms of handlers, calls and streams, in seconds. They must increase.
// The default is 16 µs, and four times as much for each further one, up to 17 s.
func WithBuckets(seconds ...float64) Option { return func(c *config) { c.buckets = seconds } }

// NewCollector returns a Collector without sources. It panics with an error that matches ErrOption if an option makes
// no sense.
func NewCollector(opts ...Option) *Collector {
	cfg := config{maxSources: defaultMaxSources, maxMethods: 200, buckets: prometheus.ExponentialBuckets(16e-6, 4, 11)}
	for _, set := range opts {
		set(&cfg)
	}
	switch {
	case cfg.maxSources < 1:
		panic(fmt.Errorf("%w: %d (WithMaxSources)", ErrOption, cfg.maxSources))
	case cfg.maxMethods < 0:
		panic(fmt.Errorf("%w: %d (WithMaxMethods)", ErrOption, cfg.maxMethods))
	case len(cfg.buckets) == 0 || !increase(cfg.buckets):
		panic(fmt.Errorf("%w: %v (WithBuckets)", ErrOption, cfg.buckets))
	}
	return &Collector{
		maxSources: cfg.maxSources, writers: writerTable(), readers: readerTable(), spools: spoolTable(),
		servers: serverTable(), clients: clientTable(), measured: newMeasured(cfg),
	}
}

// increase reports whether each value is larger than the one before.
func increase(values []float64) bool {
	for i := 1; i < len(values); i++ {
		if !(values[i] > values[i-1]) {
			return false
		}
	}
	return true
}

// AddWriter adds a Writer or a Link. As all methods that add something, it returns an error that matches ErrName,
// ErrExists, ErrTooMany or ErrSource.
func (c *Collector) AddWriter(name string, w WriterSource) error {
	return c.add("AddWriter", source{"writer", kindWriter, name, func(ch chan<- prometheus.Metric) {
		c.writers.collect(ch, w.Metrics(), kindWriter, name)
	}}, isNil(w))
}

// AddReader adds a Reader or a Listener.
func (c *Collector) AddReader(name string, r ReaderSource) error {
	return c.add("AddReader", source{"reader", kindReader, name, func(ch chan<- prometheus.Metric) {
		c.readers.collect(ch, r.Metrics(), kindReader, name)
	}}, isNil(r))
}

// AddSpool adds a Writer of package spool, with the metrics of its connections.
func (c *Collector) AddSpool(name string, w *spool.Writer) error {
	return c.add("AddSpool", source{"writer", kindSpool, name, func(ch chan<- prometheus.Metric) {
		m := w.Metrics()
		c.spools.collect(ch, m, kindSpool, name)
		c.writers.collect(ch, m.Writer, kindSpool, name)
	}}, w == nil)
}

// AddDuplexClient adds a Client of package duplex.
func (c *Collector) AddDuplexClient(name string, client *duplex.Client) error {
	return c.add("AddDuplexClient", source{"writer", kindDuplex, name, func(ch chan<- prometheus.Metric) {
		c.writers.collect(ch, client.Metrics(), kindDuplex, name)
	}}, client == nil)
}

// AddDuplexServer adds a Server of package duplex.
func (c *Collector) AddDuplexServer(name string, server *duplex.Server) error {
	return c.add("AddDuplexServer", source{"reader", kindDuplex, name, func(ch chan<- prometheus.Metric) {
		c.readers.collect(ch, server.Metrics(), kindDuplex, name)
	}}, server == nil)
}

// AddRPCClient adds a Client of package rpc. ClientCalls and ClientStreams measure its calls.
func (c *Collector) AddRPCClient(name string, client *rpc.Client) error {
	return c.add("AddRPCClient", source{"writer", kindRPC, name, func(ch chan<- prometheus.Metric) {
		m := client.Metrics()
		c.clients.collect(ch, m, kindRPC, name)
		c.writers.collect(ch, m.WriterMetrics, kindRPC, name)
	}}, client == nil)
}

// AddRPCServer adds a Server of package rpc. ServerCalls and ServerStreams measure its calls.
func (c *Collector) AddRPCServer(name string, server *rpc.Server) error {
	return c.add("AddRPCServer", source{"reader", kindRPC, name, func(ch chan<- prometheus.Metric) {
		m := server.Metrics()
		c.servers.collect(ch, m, kindRPC, name)
		c.readers.collect(ch, m.ReaderMetrics, kindRPC, name)
	}}, server == nil)
}

func (c *Collector) add(method string, s source, missing bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case missing:
		return fmt.Errorf("%w: %s(%q)", ErrSource, method, s.name)
	case s.name == "" || !utf8.ValidString(s.name):
		return fmt.Errorf("%w: %s(%q)", ErrName, method, s.name)
	case slices.ContainsFunc(c.sources, s.is):
		return fmt.Errorf("%w: %s(%q)", ErrExists, method, s.name)
	case len(c.sources) >= c.maxSources:
		return fmt.Errorf("%w: %s(%q): %d (WithMaxSources)", ErrTooMany, method, s.name, c.maxSources)
	}
	c.sources = append(c.sources, s)
	return nil
}

// isNil reports whether a source is nil, or a nil pointer.
func isNil(s any) bool {
	v := reflect.ValueOf(s)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// is reports whether two sources have the same labels.
func (s source) is(other source) bool {
	return s.role == other.role && s.kind == other.kind && s.name == other.name
}

// Remove removes all sources with a name, and what was measured under it. It reports whether there was a source.
func (c *Collector) Remove(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.sources)
	c.sources = slices.DeleteFunc(c.sources, func(s source) bool { return s.name == name })
	c.measured.remove(name)
	return len(c.sources) < before
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, describe := range []func(chan<- *prometheus.Desc){
		c.writers.describe, c.readers.describe, c.spools.describe, c.servers.describe, c.clients.describe,
		c.measured.describe,
	} {
		describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	sources := slices.Clone(c.sources)
	c.mu.Unlock()
	for _, s := range sources {
		s.collectSafely(ch)
	}
	c.measured.collect(ch)
}

// collectSafely is collect, but a panic is an error of the scrape: it must not end the process.
func (s source) collectSafely(ch chan<- prometheus.Metric) {
	defer func() {
		if cause := recover(); cause != nil {
			err := fmt.Errorf("udsipcprom: Metrics of the %s %q has panicked: %v", s.kind, s.name, cause)
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}()
	s.collect(ch)
}
