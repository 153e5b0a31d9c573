// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file measures handlers, calls and streams.

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// measured has the instruments of what is measured here.
type measured struct {
	handlers                         metric.Float64Histogram
	serverCalls, clientCalls         metric.Int64Counter
	serverDurations, clientDurations metric.Float64Histogram

	mu      sync.RWMutex
	methods map[string]bool // At most maxMethods.
}

// create creates the instruments. The bounds of histograms are 16 µs, and four times as much for each further one.
func (m *measured) create(meter metric.Meter) error {
	m.methods = make(map[string]bool)
	var bounds []float64
	for bound := 16e-6; bound < 20; bound *= 4 {
		bounds = append(bounds, bound)
	}
	var errs []error
	duration := func(name, text string) metric.Float64Histogram {
		h, err := meter.Float64Histogram("udsipc."+name, metric.WithUnit("s"), metric.WithDescription(text),
			metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	count := func(name, text string) metric.Int64Counter {
		c, err := meter.Int64Counter("udsipc."+name, metric.WithUnit("{call}"), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	m.handlers = duration("reader.handler_duration", "How long a handler runs for a message, or a batch.")
	m.serverCalls = count("rpc.server.calls", "Calls, notifications and streams that were handled.")
	m.serverDurations = duration("rpc.server.call_duration", "How long the handler of a call or stream runs.")
	m.clientCalls = count("rpc.client.calls", "Calls and streams that have ended.")
	m.clientDurations = duration("rpc.client.call_duration", "How long a call takes, and how long a stream is open.")
	return errors.Join(errs...)
}

// valid returns a text that may be an attribute: exporters fail for one that is no UTF-8.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// label returns the attribute of a method.
func (m *measured) label(method string) string {
	m.mu.RLock()
	known := m.methods[method]
	m.mu.RUnlock()
	if known {
		return method
	}
	method = valid(method)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.methods[method] && len(m.methods) >= maxMethods {
		return "other"
	}
	m.methods[method] = true
	return method
}

// noExemplars is the context of all measurements: with that of a span, the SDK would keep exemplars.
var noExemplars = context.Background()

// Handler returns a handler that measures how long h runs, under the name of its Reader.
func (m *Metrics) Handler(name string, h udsipc.MessageHandler) udsipc.MessageHandler {
	set := nameSet(name)
	return func(data []byte) error {
		defer m.handled(set, time.Now())
		return h(data)
	}
}

// DeliveryHandler is Handler for a udsipc.DeliveryHandler.
func (m *Metrics) DeliveryHandler(name string, h udsipc.DeliveryHandler) udsipc.DeliveryHandler {
	set := nameSet(name)
	return func(ctx context.Context, d *udsipc.Delivery) error {
		defer m.handled(set, time.Now())
		return h(ctx, d)
	}
}

// BatchHandler is Handler for a udsipc.BatchHandler. A batch counts once.
func (m *Metrics) BatchHandler(name string, h udsipc.BatchHandler) udsipc.BatchHandler {
	set := nameSet(name)
	return func(ctx context.Context, batch []udsipc.Delivery) error {
		defer m.handled(set, time.Now())
		return h(ctx, batch)
	}
}

func nameSet(name string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("name", valid(name))))
}

func (m *Metrics) handled(set metric.MeasurementOption, began time.Time) {
	m.measured.handlers.Record(noExemplars, time.Since(began).Seconds(), set)
}

// ServerCalls returns an interceptor that counts and measures the calls and notifications of a server (rpc.Server.Use).
func (m *Metrics) ServerCalls(name string) rpc.Interceptor {
	return serverCalls(func(_ context.Context, info rpc.CallInfo, kind string) (context.Context, func(error)) {
		return nil, m.begin(m.measured.serverCalls, m.measured.serverDurations, name, info.Method, kind)
	})
}

// ServerStreams is ServerCalls for streams (rpc.Server.UseStream).
func (m *Metrics) ServerStreams(name string) rpc.StreamInterceptor {
	return serverStreams(func(_ context.Context, info rpc.CallInfo, kind string) (context.Context, func(error)) {
		return nil, m.begin(m.measured.serverCalls, m.measured.serverDurations, name, info.Method, kind)
	})
}

// ClientCalls returns an interceptor that counts and measures the calls of a client (rpc.Client.Use).
// What an idempotent call sends again is one call.
func (m *Metrics) ClientCalls(name string) rpc.ClientInterceptor {
	return clientCalls(func(_ context.Context, method, kind string) (context.Context, func(error)) {
		return nil, m.begin(m.measured.clientCalls, m.measured.clientDurations, name, method, kind)
	})
}

// ClientStreams is ClientCalls for streams, from OpenStream to their end (rpc.Client.UseStream).
func (m *Metrics) ClientStreams(name string) rpc.ClientStreamInterceptor {
	return clientStreams(func(_ context.Context, method, kind string) (context.Context, func(error)) {
		return nil, m.begin(m.measured.clientCalls, m.measured.clientDurations, name, method, kind)
	})
}

// begin returns what notes the end of a call.
func (m *Metrics) begin(calls metric.Int64Counter, durations metric.Float64Histogram, name, method, kind string,
) func(error) {
	began := time.Now()
	return func(err error) {
		labels := []attribute.KeyValue{
			attribute.String("name", valid(name)), attribute.String("method", m.measured.label(method)),
			attribute.String("type", kind),
		}
		durations.Record(noExemplars, time.Since(began).Seconds(), metric.WithAttributes(labels...))
		calls.Add(noExemplars, 1, metric.WithAttributes(append(labels, attribute.String("code", codeText(err)))...))
	}
}
