// SPDX-License-Identifier: Apache-2.0

package udsipcprom

// This file measures handlers, calls and streams.

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
)

// measured has the metrics of what is measured here.
type measured struct {
	handlers         *prometheus.HistogramVec
	serverCalls      *prometheus.CounterVec
	serverDurations  *prometheus.HistogramVec
	clientCalls      *prometheus.CounterVec
	clientDurations  *prometheus.HistogramVec
	allMeasuredParts []interface {
		prometheus.Collector
		DeletePartialMatch(labels prometheus.Labels) int
	}

	maxMethods int
	mu         sync.RWMutex
	methods    map[string]bool // At most maxMethods.
}

// otherMethod is the label of the methods beyond WithMaxMethods.
const otherMethod = "other"

func newMeasured(cfg config) *measured {
	durations := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "udsipc_" + name, Help: help, Buckets: cfg.buckets,
		}, labels)
	}
	counts := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "udsipc_" + name, Help: help},
			[]string{"name", "method", "type", "code"})
	}
	m := &measured{
		maxMethods: cfg.maxMethods, methods: make(map[string]bool),
		handlers: durations("reader_handler_duration_seconds", "How long a handler runs for a message, or a batch.", "name"),
		serverCalls: counts("rpc_server_calls_total",
			"Calls, notifications and streams that were handled, by the code of their error."),
		serverDurations: durations("rpc_server_call_duration_seconds", "How long the handler of a call or stream runs.",
			"name", "method", "type"),
		clientCalls: counts("rpc_client_calls_total", "Calls and streams that have ended, by the code of their error."),
		clientDurations: durations("rpc_client_call_duration_seconds",
			"How long a call takes, and how long a stream is open.", "name", "method", "type"),
	}
	m.allMeasuredParts = append(m.allMeasuredParts, m.handlers, m.serverCalls, m.serverDurations, m.clientCalls,
		m.clientDurations)
	return m
}

func (m *measured) describe(ch chan<- *prometheus.Desc) {
	for _, part := range m.allMeasuredParts {
		part.Describe(ch)
	}
}

func (m *measured) collect(ch chan<- prometheus.Metric) {
	for _, part := range m.allMeasuredParts {
		part.Collect(ch)
	}
}

// remove removes what was measured under a name.
func (m *measured) remove(name string) {
	for _, part := range m.allMeasuredParts {
		part.DeletePartialMatch(prometheus.Labels{"name": name})
	}
}

// valid returns a text that may be a label: the client panics for one that is no UTF-8.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// label returns the label of a method.
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
	if !m.methods[method] && len(m.methods) >= m.maxMethods {
		return otherMethod
	}
	m.methods[method] = true
	return method
}

// Handler returns a handler that measures how long h runs, under the name of its Reader.
func (c *Collector) Handler(name string, h udsipc.MessageHandler) udsipc.MessageHandler {
	name = valid(name)
	return func(data []byte) error {
		defer c.observe(name, time.Now())
		return h(data)
	}
}

// DeliveryHandler is Handler for a udsipc.DeliveryHandler.
func (c *Collector) DeliveryHandler(name string, h udsipc.DeliveryHandler) udsipc.DeliveryHandler {
	name = valid(name)
	return func(ctx context.Context, d *udsipc.Delivery) error {
		defer c.observe(name, time.Now())
		return h(ctx, d)
	}
}

// BatchHandler is Handler for a udsipc.BatchHandler. A batch counts once.
func (c *Collector) BatchHandler(name string, h udsipc.BatchHandler) udsipc.BatchHandler {
	name = valid(name)
	return func(ctx context.Context, batch []udsipc.Delivery) error {
		defer c.observe(name, time.Now())
		return h(ctx, batch)
	}
}

// observe notes the end of a handler. The histogram is looked up each time: Remove may have removed it.
func (c *Collector) observe(name string, began time.Time) {
	c.measured.handlers.WithLabelValues(name).Observe(time.Since(began).Seconds())
}

// Values of the label type.
const (
	typeCall         = "call"
	typeNotification = "notification"
	typeStream       = "stream"
)

// codeText returns the label of the end of a call.
func codeText(err error) string {
	if err == nil {
		return "ok"
	}
	code := rpc.CodeOf(err)
	if code > rpc.CodeStopped {
		return "application" // The programs define these codes: there may be any number of them.
	}
	return code.String()
}

// errPanic is the error of what has not returned.
var errPanic = &rpc.Error{Code: rpc.CodePanic}

// ServerCalls returns an interceptor that counts and measures the calls and notifications of a server:
//
//	server.Use(collector.ServerCalls("orders"))
func (c *Collector) ServerCalls(name string) rpc.Interceptor {
	name = valid(name)
	return func(next rpc.Handler) rpc.Handler {
		return func(ctx context.Context, request []byte) (response []byte, err error) {
			info, _ := rpc.CallFromContext(ctx)
			kind := typeCall
			if info.ID == 0 {
				kind = typeNotification
			}
			defer c.handled(name, info.Method, kind, time.Now(), &err)()
			return next(ctx, request)
		}
	}
}

// ServerStreams is ServerCalls for streams:
//
//	server.UseStream(collector.ServerStreams("orders"))
func (c *Collector) ServerStreams(name string) rpc.StreamInterceptor {
	name = valid(name)
	return func(next rpc.StreamHandler) rpc.StreamHandler {
		return func(ctx context.Context, s *rpc.Stream) (err error) {
			info, _ := rpc.CallFromContext(ctx)
			defer c.handled(name, info.Method, typeStream, time.Now(), &err)()
			return next(ctx, s)
		}
	}
}

// handled returns what notes the end of a handler. Until the handler has returned, *err is that of a panic.
func (c *Collector) handled(name, method, kind string, began time.Time, err *error) func() {
	*err = errPanic
	return func() {
		method := c.measured.label(method)
		c.measured.serverCalls.WithLabelValues(name, method, kind, codeText(*err)).Inc()
		c.measured.serverDurations.WithLabelValues(name, method, kind).Observe(time.Since(began).Seconds())
	}
}

// ClientCalls returns an interceptor that counts and measures the calls of a client. What an idempotent call sends
// again is one call.
//
//	client.Use(collector.ClientCalls("orders"))
func (c *Collector) ClientCalls(name string) rpc.ClientInterceptor {
	name = valid(name)
	return func(next rpc.CallFunc) rpc.CallFunc {
		return func(ctx context.Context, method string, request []byte) (response []byte, err error) {
			began := time.Now()
			err = errPanic
			defer func() { c.called(name, method, typeCall, began, err) }()
			return next(ctx, method, request)
		}
	}
}

// ClientStreams is ClientCalls for streams, from OpenStream to their end. A stream that the client closes has the code
// "ok".
//
//	client.UseStream(collector.ClientStreams("orders"))
func (c *Collector) ClientStreams(name string) rpc.ClientStreamInterceptor {
	name = valid(name)
	return func(next rpc.OpenFunc) rpc.OpenFunc {
		return func(ctx context.Context, method string, request []byte) (*rpc.ClientStream, error) {
			began := time.Now()
			stream, err := next(ctx, method, request)
			if err != nil {
				c.called(name, method, typeStream, began, err)
				return nil, err
			}
			context.AfterFunc(stream.Context(), func() {
				cause := context.Cause(stream.Context())
				if cause == context.Canceled && ctx.Err() == nil {
					cause = nil // The client has called Close.
				}
				c.called(name, method, typeStream, began, cause)
			})
			return stream, nil
		}
	}
}

func (c *Collector) called(name, method, kind string, began time.Time, err error) {
	method = c.measured.label(method)
	c.measured.clientCalls.WithLabelValues(name, method, kind, codeText(err)).Inc()
	c.measured.clientDurations.WithLabelValues(name, method, kind).Observe(time.Since(began).Seconds())
}
