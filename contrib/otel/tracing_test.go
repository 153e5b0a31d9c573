// SPDX-License-Identifier: Apache-2.0

package udsipcotel_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	udsipcotel "github.com/udsipc/udsipc/contrib/otel"
	"github.com/udsipc/udsipc/rpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"
)

// panicsFor is an interceptor that panics for the method of this name.
func panicsFor(next rpc.CallFunc) rpc.CallFunc {
	return func(ctx context.Context, method string, request []byte) ([]byte, error) {
		if method == "panicking" {
			panic("of an interceptor")
		}
		return next(ctx, method, request)
	}
}

// A traced world has a server "front", whose method "outer" calls "inner" of a server "back".
type traced struct {
	*world
	spans  *tracetest.InMemoryExporter
	tracer api.Tracer
	client *rpc.Client // Of front.
}

func newTraced(t *testing.T) *traced {
	w := &traced{world: newWorld(t), spans: tracetest.NewInMemoryExporter()}
	provider := trace.NewTracerProvider(trace.WithSyncer(w.spans))
	w.tracer = provider.Tracer("test")
	tracing := udsipcotel.NewTracing(provider,
		propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	dial := func(name string) *rpc.Client {
		client, err := rpc.NewClient(w.path(name), quiet)
		w.no(err)
		client.Use(tracing.ClientCalls(), panicsFor)
		client.UseStream(tracing.ClientStreams())
		w.starts(client)
		return client
	}
	serve := func(name string, prepare func(s *rpc.Server)) {
		server, err := rpc.NewServer(w.path(name), quiet)
		w.no(err)
		server.Use(tracing.ServerCalls())
		server.UseStream(tracing.ServerStreams())
		prepare(server)
		w.starts(server)
	}
	back := dial("back")
	serve("back", func(s *rpc.Server) {
		s.Handle("inner", func(ctx context.Context, _ []byte) ([]byte, error) {
			return []byte(baggage.FromContext(ctx).Member("user").Value()), nil
		})
	})
	serve("front", func(s *rpc.Server) {
		s.Handle("outer", func(ctx context.Context, request []byte) ([]byte, error) {
			return back.Call(ctx, "inner", request)
		})
		s.Handle("fail", func(context.Context, []byte) ([]byte, error) {
			return nil, &rpc.Error{Code: rpc.CodeNotFound, Message: "no such thing"}
		})
		s.Handle("panic", func(context.Context, []byte) ([]byte, error) { panic("at the disco") })
		s.HandleStream("count", func(ctx context.Context, stream *rpc.Stream) error {
			return stream.Send([]byte(api.SpanContextFromContext(ctx).TraceID().String()))
		})
	})
	w.client = dial("front")
	return w
}

// ended waits for so many spans, and returns them by their kind and name.
func (w *traced) ended(n int) map[string]tracetest.SpanStub {
	w.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(w.spans.GetSpans()) < n {
		if time.Now().After(deadline) {
			w.Fatalf("%d spans, want %d", len(w.spans.GetSpans()), n)
		}
		time.Sleep(time.Millisecond)
	}
	byName := map[string]tracetest.SpanStub{}
	for _, s := range w.spans.GetSpans() {
		byName[s.SpanKind.String()+" "+s.Name] = s
	}
	return byName
}

// TestTracing_Call_IsOneTrace through two servers, with its baggage.
func TestTracing_Call_IsOneTrace(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	member, err := baggage.NewMember("user", "alice")
	w.no(err)
	bag, err := baggage.New(member)
	w.no(err)
	ctx, root := w.tracer.Start(baggage.ContextWithBaggage(t.Context(), bag), "root")
	response, err := w.client.Call(ctx, "outer", nil)
	root.End()
	if err != nil || string(response) != "alice" {
		t.Fatalf("%q, %v", response, err)
	}
	spans := w.ended(5)
	parent := root.SpanContext()
	for _, name := range []string{"client outer", "server outer", "client inner", "server inner"} {
		s, ok := spans[name]
		if !ok || s.SpanContext.TraceID() != parent.TraceID() || s.Parent.SpanID() != parent.SpanID() ||
			s.Parent.IsRemote() != strings.HasPrefix(name, "server") || s.Status.Code != codes.Unset {
			t.Errorf("%s: %+v, want a child of %v", name, s, parent.SpanID())
		}
		parent = s.SpanContext
	}
}

// TestTracing_Failures_AreErrorsOfBothSpans: an error and a panic of the handler.
func TestTracing_Failures_AreErrorsOfBothSpans(t *testing.T) {
	t.Parallel()
	for method, code := range map[string]string{"fail": "not found", "panic": "panic"} {
		w := newTraced(t)
		if _, err := w.client.Call(t.Context(), method, nil); err == nil {
			t.Error("no error")
		}
		for name, s := range w.ended(2) {
			attributes := attribute.NewSet(s.Attributes...)
			kind, _ := attributes.Value("error.type")
			system, _ := attributes.Value("rpc.system.name")
			if s.Status.Code != codes.Error || kind.AsString() != code || system.AsString() != "udsipc" {
				t.Errorf("%s: %+v %v", name, s.Status, s.Attributes)
			}
		}
	}
}

// TestTracing_Stream_IsOneTrace: the client's span ends when it closes the stream, the server's with its handler.
func TestTracing_Stream_IsOneTrace(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	stream, err := w.client.OpenStream(t.Context(), "count", nil)
	w.no(err)
	id, err := stream.Receive()
	w.no(err)
	received := string(id)
	w.ended(1)
	if _, early := w.ended(1)["client count"]; early {
		t.Error("the client's span ends before the stream")
	}
	w.no(stream.Close())
	spans := w.ended(2)
	client, server := spans["client count"], spans["server count"]
	if got := server.SpanContext.TraceID(); got != client.SpanContext.TraceID() || got.String() != received ||
		server.Parent.SpanID() != client.SpanContext.SpanID() || client.Status.Code != codes.Unset {
		t.Errorf("%+v %+v", client, server)
	}
	w.spans.Reset()
	if stream, err := w.client.OpenStream(canceled(t), "count", nil); err == nil {
		stream.Close()
	}
	for n := 1; ; n++ { // That of the server may be the first.
		if got, ok := w.ended(n)["client count"]; ok {
			if got.Status.Code != codes.Error {
				t.Errorf("%+v", got.Status)
			}
			return
		}
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	return ctx
}

// TestTracing_LargeBaggage_IsLeftOut, and the call and its trace go on.
func TestTracing_LargeBaggage_IsLeftOut(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	member, err := baggage.NewMember("user", strings.Repeat("x", 5000))
	w.no(err)
	bag, err := baggage.New(member)
	w.no(err)
	response, err := w.client.Call(baggage.ContextWithBaggage(t.Context(), bag), "outer", nil)
	if err != nil || len(response) > 0 {
		t.Fatalf("%d bytes, %v", len(response), err)
	}
	spans := w.ended(4)
	if a, b := spans["client outer"].SpanContext.TraceID(), spans["server inner"].SpanContext.TraceID(); a != b {
		t.Errorf("%v and %v", a, b)
	}
}

// TestTracing_FullMetadata_AreSent: the context of a trace takes no space from the metadata of the program.
func TestTracing_FullMetadata_AreSent(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	many := rpc.Metadata{}
	for i := range 64 {
		many[strconv.Itoa(i)] = ""
	}
	for _, own := range []rpc.Metadata{many, {"k": strings.Repeat("x", 8<<10-4)}} {
		if _, err := w.client.Call(rpc.WithMetadata(t.Context(), own), "outer", nil); err != nil {
			t.Error(err)
		}
	}
}

// TestTracing_InvalidText_IsReplaced: an exporter fails for what is no UTF-8. A panic ends the span as well.
func TestTracing_InvalidText_IsReplaced(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	if _, err := w.client.Call(t.Context(), "\xff", nil); rpc.CodeOf(err) != rpc.CodeUnknownMethod {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = w.client.Call(t.Context(), "panicking", nil)
	}()
	spans := w.ended(2)
	for _, name := range []string{"client \uFFFD", "client panicking"} {
		if spans[name].Status.Code != codes.Error || !utf8.ValidString(spans[name].Status.Description) {
			t.Errorf("%s: %+v", name, spans[name].Status)
		}
	}
}

// TestTracing_Notification_HasATraceOfItsOwn.
func TestTracing_Notification_HasATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	w.no(w.client.Notify("fail", nil))
	if s := w.ended(1)["server fail"]; s.Parent.IsValid() || s.Status.Code != codes.Error {
		t.Errorf("%+v", s)
	}
}
