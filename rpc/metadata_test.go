// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// described returns the metadata of the call of a handler, as text.
func described(ctx context.Context) []byte {
	info, _ := ours.CallFromContext(ctx)
	return fmt.Append(nil, info.Method, " ", map[string]string(info.Metadata))
}

// serveMetadata serves methods that return what their handlers get.
func serveMetadata(t *testing.T, address string) {
	serve(t, address, func(s *ours.Server) {
		s.Handle("tell", func(ctx context.Context, _ []byte) ([]byte, error) { return described(ctx), nil })
		s.HandleStream("watch", func(ctx context.Context, stream *ours.Stream) error {
			return stream.Send(append(described(ctx), stream.Request()...))
		})
	})
}

// TestMetadata_ReachesTheHandler of calls and streams, merged from the contexts around, and nobody else.
func TestMetadata_ReachesTheHandler(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serveMetadata(t, address)
	c := dial(t, address)
	ctx := ours.WithMetadata(t.Context(), ours.Metadata{"a": "1", "b": "\x00\xff", "": ""})
	ctx = ours.WithMetadata(ctx, ours.Metadata{"a": "2", "long": strings.Repeat("x", 5000)})
	want := fmt.Sprint("tell ", map[string]string{"a": "2", "b": "\x00\xff", "": "", "long": strings.Repeat("x", 5000)})
	if got, err := c.Call(ctx, "tell", []byte("request")); err != nil || string(got) != want {
		t.Errorf("%.100q, %v, want %.100q", got, err, want)
	}
	if got, err := c.Call(t.Context(), "tell", nil); err != nil || string(got) != "tell map[]" {
		t.Errorf("without metadata: %q, %v", got, err)
	}
	stream, err := c.OpenStream(ours.WithMetadata(t.Context(), ours.Metadata{"k": "v"}), "watch", []byte("!"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if got, err := stream.Receive(); err != nil || string(got) != "watch map[k:v]!" {
		t.Errorf("stream: %q, %v", got, err)
	}
}

// TestMetadata_InvalidCalls_AreNotSent: too much of it, and methods whose names would be read as metadata.
func TestMetadata_InvalidCalls_AreNotSent(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serveMetadata(t, address)
	c := dial(t, address)
	large := ours.WithMetadata(t.Context(), ours.Metadata{"k": strings.Repeat("x", 8<<10)})
	_, called := c.Call(large, "tell", nil)
	_, opened := c.OpenStream(large, "watch", nil)
	_, named := c.Call(t.Context(), "tell\x00\x01k\x01v", nil)
	notified := c.Notify("tell\x00", nil)
	many := ours.Metadata{}
	for i := range 65 {
		many[fmt.Sprint(i)] = "v"
	}
	_, crowded := c.Call(ours.WithMetadata(t.Context(), many), "tell", nil)
	for i, err := range []error{called, opened, named, notified, crowded} {
		if ours.CodeOf(err) != ours.CodeInvalidArgument {
			t.Errorf("case %d: %v", i, err)
		}
	}
	fits := ours.WithMetadata(t.Context(), ours.Metadata{"k": strings.Repeat("x", 8<<10-4)})
	delete(many, "0")
	if _, err := c.Call(ours.WithMetadata(t.Context(), many), "tell", nil); err != nil {
		t.Error(err)
	}
	if _, err := c.Call(fits, "tell", nil); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a method with a zero byte was registered")
		}
	}()
	s, err := ours.NewServer(ipctest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("a\x00b", echo)
}

// TestMetadata_Malformed_FailsItsCallAlone: the server answers, and the connection goes on.
func TestMetadata_Malformed_FailsItsCallAlone(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serveMetadata(t, address)
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	malformed := []string{"\x02k", "\x01k\x02v", "\xff", "\x01k", strings.Repeat("\x00", 8<<10+2),
		strings.Repeat("\x00", 2*65)}
	for i, metadata := range append(malformed, "\x01k\x01v") {
		id := byte(i + 1)
		field := "tell\x00" + metadata
		message := append(binary.AppendUvarint([]byte{1, id, 0}, uint64(len(field))), field...)
		if err := conn.WriteMessage(message); err != nil {
			t.Fatal(err)
		}
		got, err := conn.ReadMessage()
		want := []byte{3, id, byte(ours.CodeInvalidArgument)}
		if i == len(malformed) {
			want = append([]byte{2, id}, "tell map[k:v]"...)
		}
		if err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%.10q: %q, %v, want %q", metadata, got, err, want)
		}
	}
}

// TestClientInterceptors_WrapCallsAndStreams in their order, idempotent calls and those of a Method as well.
func TestClientInterceptors_WrapCallsAndStreams(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serveMetadata(t, address)
	c, err := ours.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	defer ipctest.Stop(t, c)
	var seen []string
	mark := func(name string) ours.ClientInterceptor {
		return func(next ours.CallFunc) ours.CallFunc {
			return func(ctx context.Context, method string, request []byte) ([]byte, error) {
				seen = append(seen, name+" "+method)
				response, err := next(ours.WithMetadata(ctx, ours.Metadata{name: "x"}), method, request)
				return append(response, " "+name...), err
			}
		}
	}
	c.Use(mark("a"), mark("b"))
	c.Use(mark("c"))
	for _, name := range []string{"d", "e"} {
		c.UseStream(func(next ours.OpenFunc) ours.OpenFunc {
			return func(ctx context.Context, method string, request []byte) (*ours.ClientStream, error) {
				return next(ours.WithMetadata(ctx, ours.Metadata{name: "x"}), method, append(request, name...))
			}
		})
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	want := "tell map[a:x b:x c:x] c b a"
	for name, call := range map[string]func(context.Context, string, []byte) ([]byte, error){
		"Call": c.Call, "CallIdempotent": c.CallIdempotent,
	} {
		if got, err := call(t.Context(), "tell", nil); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if wantSeen := []string{"a tell", "b tell", "c tell"}; !slices.Equal(seen, slices.Repeat(wantSeen, 2)) {
		t.Errorf("%q", seen)
	}
	stream, err := c.OpenStream(t.Context(), "watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if got, err := stream.Receive(); err != nil || string(got) != "watch map[d:x e:x]de" {
		t.Errorf("stream: %q, %v", got, err)
	}
	if m := c.Metrics(); m.ActiveCalls > 1 || m.Sent < 3 || !m.Connected || m.Connections != 1 {
		t.Errorf("%+v", m)
	}
}

// TestMetadata_IsNotPassedOn: a handler that calls on with its context sends what it sets, and nothing of its caller's.
func TestMetadata_IsNotPassedOn(t *testing.T) {
	t.Parallel()
	first, second := ipctest.SocketPath(t), ipctest.SocketPath(t)
	serveMetadata(t, second)
	onward := dial(t, second)
	serve(t, first, func(s *ours.Server) {
		s.Handle("on", func(ctx context.Context, _ []byte) ([]byte, error) { return onward.Call(ctx, "tell", nil) })
	})
	ctx := ours.WithMetadata(t.Context(), ours.Metadata{"k": "v"})
	if got, err := dial(t, first).Call(ctx, "on", nil); err != nil || string(got) != "tell map[]" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestOutgoingMetadata_IsACopy of what the calls of a context carry.
func TestOutgoingMetadata_IsACopy(t *testing.T) {
	t.Parallel()
	if m := ours.OutgoingMetadata(t.Context()); m != nil {
		t.Errorf("%v without any", m)
	}
	ctx := ours.WithMetadata(t.Context(), ours.Metadata{"a": "1"})
	ours.OutgoingMetadata(ctx)["a"] = "2"
	if got := ours.OutgoingMetadata(ctx)["a"]; got != "1" {
		t.Errorf("got %q", got)
	}
}

// TestMetadata_TinyValues_CountAsTheMemoryTheyTake: many small ones take a multiple of their bytes.
func TestMetadata_TinyValues_CountAsTheMemoryTheyTake(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var s *ours.Server
	counted := make(chan int64, 1)
	serve(t, address, func(server *ours.Server) {
		s = server
		s.Handle("count", func(context.Context, []byte) ([]byte, error) {
			counted <- s.Metrics().RequestBytes
			return nil, nil
		})
	})
	m := ours.Metadata{}
	for i := range 64 {
		m[fmt.Sprint(i)] = ""
	}
	if _, err := dial(t, address).Call(ours.WithMetadata(t.Context(), m), "count", nil); err != nil {
		t.Fatal(err)
	}
	if n := <-counted; n < 5000 || n > 10_000 {
		t.Errorf("64 values count as %d bytes", n)
	}
	if n := s.Metrics().RequestBytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestClient_UseTooLate_Panics, and so does an interceptor that returns nothing: calls would go past it.
func TestClient_UseTooLate_Panics(t *testing.T) {
	t.Parallel()
	started := dial(t, ipctest.SocketPath(t))
	fresh, err := ours.NewClient(ipctest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ipctest.Stop(t, fresh)
	for name, use := range map[string]func(){
		"Use":         func() { started.Use() },
		"UseStream":   func() { started.UseStream() },
		"no CallFunc": func() { fresh.Use(func(ours.CallFunc) ours.CallFunc { return nil }) },
		"no OpenFunc": func() { fresh.UseStream(func(ours.OpenFunc) ours.OpenFunc { return nil }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			use()
		}()
	}
}
