// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

type sum struct{ A, B int }

var (
	add    = ours.NewMethod("add", codec.JSON[sum](), codec.JSON[int]())
	ping   = ours.NewMethod("ping", codec.None, codec.None)
	root   = ours.NewMethod("root", codec.JSON[float64](), codec.JSON[float64]())
	record = ours.NewMethod("record", codec.Raw, codec.None)
)

func TestMethod_Call_RoundTrips(t *testing.T) {
	overTransports(t, func(t *testing.T, p *place) {
		recorded := make(chan string, 1)
		p.serve(t, func(s *ours.Server) {
			add.Handle(s, func(_ context.Context, q sum) (int, error) {
				if q.A < 0 {
					return 0, ours.Errorf(ours.CodeFirstUser, "negative")
				}
				return q.A + q.B, nil
			})
			ping.Handle(s, func(context.Context, struct{}) (none struct{}, err error) { return none, nil })
			root.Handle(s, func(_ context.Context, v float64) (float64, error) { return math.Sqrt(v), nil })
			record.Handle(s, func(_ context.Context, data []byte) (none struct{}, err error) {
				recorded <- string(data)
				return none, nil
			})
		})
		c := p.dial(t)
		if n, err := add.Call(t.Context(), c, sum{2, 3}); err != nil || n != 5 {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := add.CallIdempotent(t.Context(), c, sum{2, 4}); err != nil || n != 6 {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := add.Call(t.Context(), c, sum{-2, 3}); ours.CodeOf(err) != ours.CodeFirstUser {
			t.Error(err)
		}
		if _, err := ping.Call(t.Context(), c, struct{}{}); err != nil {
			t.Error(err)
		}
		if err := record.Notify(c, []byte("kept")); err != nil {
			t.Error(err)
		}
		if got := ipctest.Await(t, "the notification arrives", recorded); got != "kept" {
			t.Error(got)
		}
		// What cannot be encoded or decoded, at each end.
		for name, err := range map[string]error{
			"the request here":   second(root.Call(t.Context(), c, math.Inf(1))),
			"the notification":   root.Notify(c, math.NaN()),
			"the request there":  second(c.Call(t.Context(), "add", []byte("nonsense"))),
			"no request there":   second(c.Call(t.Context(), "ping", []byte("x"))),
			"the response there": second(root.Call(t.Context(), c, -1)),
			"the response here":  second(ours.NewMethod("add", codec.JSON[sum](), codec.None).Call(t.Context(), c, sum{2, 3})),
		} {
			want := ours.CodeInvalidArgument
			if name == "the response there" { // A fault of the server.
				want = ours.CodeUnknown
			}
			if ours.CodeOf(err) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if add.Name() != "add" {
			t.Error(add.Name())
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestMethod_NilHandler_Panics(t *testing.T) {
	t.Parallel()
	s, err := ours.NewServer(ipctest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, handle := range []func(){
		func() { add.Handle(s, nil) }, func() { tally.Handle(s, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a nil handler was taken")
				}
			}()
			handle()
		}()
	}
}

// tally adds the numbers that the client sends to the one of the request, and sends each sum.
var tally = ours.NewStreamMethod("tally", codec.JSON[int](), codec.JSON[float64](), codec.JSON[float64]())

func serveTally(s *ours.Server) {
	tally.Handle(s, func(_ context.Context, start int, stream *ours.TypedStream[float64, float64]) error {
		total, bad := float64(start), 0.0
		for v, err := range stream.Messages() {
			switch {
			case errors.Is(err, codec.ErrInvalid):
				if bad++; v != 0 || ours.CodeOf(err) != ours.CodeInvalidArgument {
					return errors.New("an error with a value, or without its code")
				}
				continue
			case err != nil:
				return err
			}
			if err := stream.Send(math.Inf(1)); ours.CodeOf(err) != ours.CodeInvalidArgument {
				return errors.New("infinity was sent")
			}
			if err := stream.Send(total + v); err != nil {
				return err
			}
			total += v
		}
		return stream.Send(-bad)
	})
}

func TestStreamMethod_Open_CarriesValues(t *testing.T) {
	overTransports(t, func(t *testing.T, p *place) {
		p.serve(t, serveTally)
		c := p.dial(t)
		stream, err := tally.Open(t.Context(), c, 100)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for v := range 3 {
			if err := stream.Send(float64(v)); err != nil {
				t.Fatal(err)
			}
		}
		if v, err := stream.Receive(); v != 100 || err != nil {
			t.Error(v, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		var got []float64
		for v, err := range stream.Messages() {
			if got = append(got, v); err != nil {
				t.Error(err)
			}
		}
		if want := []float64{101, 103, 0}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		for range stream.Messages() {
			t.Error("the ended stream has messages")
		}
		if stream.Close(); stream.Context().Err() == nil || tally.Name() != "tally" {
			t.Error("the context goes on")
		}
	})
}

// TestStreamMethod_HostileBytes_CostTheirMessage: what cannot be decoded does not reach the handler as a value, and
// ends no stream but the one whose request it is.
func TestStreamMethod_HostileBytes_CostTheirMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, func(s *ours.Server) {
		serveTally(s)
		s.HandleStream("nonsense", func(_ context.Context, s *ours.Stream) error {
			for _, text := range []string{"7", "", "\xff", "[", "8"} {
				if err := s.Send([]byte(text)); err != nil {
					return err
				}
			}
			return ours.Errorf(ours.CodeInvalidArgument, "mine")
		})
	})
	c := dial(t, address)
	for _, request := range []string{"", "\x00", `"text"`, "1e999"} {
		stream, err := c.OpenStream(t.Context(), "tally", []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); ours.CodeOf(err) != ours.CodeInvalidArgument {
			t.Errorf("%q: %v", request, err)
		}
		stream.Close()
	}
	stream, err := c.OpenStream(t.Context(), "tally", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, text := range []string{"", "{", "2", "\xff\xfe", "3"} {
		if err := stream.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for data, err := range stream.Messages() {
		if got = append(got, string(data)); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"3", "6", "-3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	nonsense := ours.NewStreamMethod("nonsense", codec.None, codec.None, codec.JSON[int]())
	values, err := nonsense.Open(t.Context(), c, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	defer values.Close()
	var numbers []int
	var last error
	for v, err := range values.Messages() {
		numbers, last = append(numbers, v), err
	}
	want := []int{7, 0, 0, 0, 8, 0}
	if !slices.Equal(numbers, want) || last.Error() != "udsipc/rpc: invalid argument: mine" {
		t.Errorf("%v, %v", numbers, last)
	}
}

// TestStreamMethod_EndOfData_IsNoEndOfStream: a decoder's io.EOF costs its message.
func TestStreamMethod_EndOfData_IsNoEndOfStream(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, func(s *ours.Server) {
		s.HandleStream("empty", func(_ context.Context, s *ours.Stream) error { return s.Send(nil) })
	})
	empty := ours.NewStreamMethod("empty", codec.None, codec.None, codec.Gob[int]())
	stream, err := empty.Open(t.Context(), dial(t, address), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Receive(); !errors.Is(err, codec.ErrInvalid) || errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, err := stream.Receive(); err != io.EOF {
		t.Error(err)
	}
}

// TestStreamMethod_StopInTheMiddle: an iterator of each side ends with an error when the other side goes.
func TestStreamMethod_StopInTheMiddle(t *testing.T) {
	overTransports(t, func(t *testing.T, p *place) {
		ended := make(chan error, 1)
		both := ours.NewStreamMethod("both", codec.Raw, codec.Raw, codec.Raw)
		s := p.serve(t, func(s *ours.Server) {
			both.Handle(s, func(_ context.Context, request []byte, stream *ours.TypedStream[[]byte, []byte]) error {
				if err := stream.Send(request); err != nil {
					return err
				}
				for _, err := range stream.Messages() {
					if err != nil {
						ended <- err
						return err
					}
				}
				return nil
			})
		})
		c := p.dial(t)
		openAndEnd(t, c, both, func(stream *ours.TypedClientStream[[]byte, []byte]) { _ = stream.Close() })
		if code := ours.CodeOf(ipctest.Await(t, "the handler ends", ended)); code != ours.CodeCanceled {
			t.Error(code)
		}
		openAndEnd(t, c, both, func(*ours.TypedClientStream[[]byte, []byte]) { ipctest.Stop(t, s) })
		if code := ours.CodeOf(ipctest.Await(t, "the handler ends", ended)); code != ours.CodeConnectionLost {
			t.Error(code)
		}
	})
}

// openAndEnd opens a stream, ends it in the middle of its messages, and wants an error of its iterator.
func openAndEnd(t *testing.T, c *ours.Client, m *ours.StreamMethod[[]byte, []byte, []byte],
	end func(*ours.TypedClientStream[[]byte, []byte])) {
	t.Helper()
	stream, err := m.Open(t.Context(), c, []byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var last error
	for data, err := range stream.Messages() {
		if last = err; err == nil {
			if string(data) != "request" {
				t.Errorf("%q", data)
			}
			end(stream)
		}
	}
	if last == nil {
		t.Error("the iterator ends without an error")
	}
}

func TestStreamMethod_RequestOverLimit_IsRefused(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.SetMaxMemory(1 << 20)
		s.HandleStream("size", func(ctx context.Context, s *ours.Stream) error {
			if err := s.Send([]byte{byte(len(s.Request()) >> 16)}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
	})
	c := dial(t, address)
	if _, err := c.OpenStream(t.Context(), "size", make([]byte, 11<<20)); ours.CodeOf(err) != ours.CodeTooLarge {
		t.Error(err)
	}
	for i := range 3 { // Requests of open streams count; half of the memory is for one connection.
		stream, err := c.OpenStream(t.Context(), "size", make([]byte, 200<<10))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		data, err := stream.Receive()
		if i < 2 && (err != nil || data[0] != 3) || i == 2 && ours.CodeOf(err) != ours.CodeResourceExhausted {
			t.Errorf("stream %d: %v, %v", i, data, err)
		}
	}
	if n := s.Metrics().RequestBytes; n < 400<<10 || n > 500<<10 {
		t.Errorf("%d bytes of requests", n)
	}
}
