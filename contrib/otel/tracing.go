// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file traces calls.

import (
	"context"

	"github.com/udsipc/udsipc/rpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Limits of the metadata of a call. Package rpc fails calls with more than 8 KiB or 64 values.
const (
	maxInjected = 4 << 10 // Bytes that a propagator adds.
	maxMetadata = 8 << 10
	maxValues   = 64
	valueSize   = 4 // Bytes of the lengths of a key and a value.
)

// Tracing makes a span of each call and stream of package rpc, at the client and at the server. The
// client's interceptors put the context of their span into the metadata of the call (rpc.WithMetadata);
// the server's begin theirs below it. Notifications carry no context, and have a trace of their own. All
// methods are safe for concurrent use.
type Tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// NewTracing returns Tracing with spans of provider. The propagator, such as propagation.TraceContext{}, is the same at
// both ends. If it adds more than 4 KiB, or more than fits beside the metadata of the program, the
// largest values, such as baggage, are left out, so that the call itself does not fail.
func NewTracing(provider trace.TracerProvider, propagator propagation.TextMapPropagator) *Tracing {
	return &Tracing{tracer: provider.Tracer(scope), propagator: propagator}
}

// ServerCalls returns an interceptor for rpc.Server.Use.
func (t *Tracing) ServerCalls() rpc.Interceptor { return serverCalls(t.beginServer) }

// ServerStreams returns an interceptor for rpc.Server.UseStream.
func (t *Tracing) ServerStreams() rpc.StreamInterceptor { return serverStreams(t.beginServer) }

// ClientCalls returns an interceptor for rpc.Client.Use.
func (t *Tracing) ClientCalls() rpc.ClientInterceptor { return clientCalls(t.beginClient) }

// ClientStreams returns an interceptor for rpc.Client.UseStream. The span ends with the stream.
func (t *Tracing) ClientStreams() rpc.ClientStreamInterceptor { return clientStreams(t.beginClient) }

func (t *Tracing) beginServer(ctx context.Context, info rpc.CallInfo, kind string) (context.Context, func(error)) {
	ctx = t.propagator.Extract(ctx, propagation.MapCarrier(info.Metadata))
	return t.begin(ctx, info.Method, kind, trace.SpanKindServer)
}

func (t *Tracing) beginClient(ctx context.Context, method, kind string) (context.Context, func(error)) {
	ctx, end := t.begin(ctx, method, kind, trace.SpanKindClient)
	carrier := propagation.MapCarrier{}
	t.propagator.Inject(ctx, carrier)
	shorten(carrier, rpc.OutgoingMetadata(ctx))
	if len(carrier) > 0 {
		ctx = rpc.WithMetadata(ctx, rpc.Metadata(carrier))
	}
	return ctx, end
}

// shorten removes the largest values until the rest fits beside the metadata of the program.
func shorten(carrier propagation.MapCarrier, own rpc.Metadata) {
	space := maxMetadata
	for key, value := range own {
		space -= len(key) + len(value) + valueSize
	}
	space = min(space, maxInjected)
	for len(carrier) > 0 {
		size, largest := 0, ""
		for key, value := range carrier {
			size += len(key) + len(value) + valueSize
			if largest == "" || len(key)+len(value) > len(largest)+len(carrier[largest]) {
				largest = key
			}
		}
		if size <= space && len(carrier)+len(own) <= maxValues {
			return
		}
		delete(carrier, largest)
	}
}

func (t *Tracing) begin(ctx context.Context, method, kind string, spanKind trace.SpanKind,
) (context.Context, func(error)) {
	method = valid(method)
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(spanKind), trace.WithAttributes(
		attribute.String("rpc.system.name", "udsipc"), attribute.String("rpc.method", method),
		attribute.String("udsipc.type", kind)))
	return ctx, func(err error) {
		if err != nil {
			span.SetAttributes(attribute.String("error.type", codeText(err)))
			span.SetStatus(codes.Error, valid(err.Error()))
		}
		span.End()
	}
}
