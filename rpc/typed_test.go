// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

type sum struct{ A, B int }

func TestCall_Typed_Decodes(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	sums, ints := codec.JSON[sum](), codec.JSON[int]()
	serve(t, address, func(s *ours.Server) {
		ours.Handle(s, "add", sums, ints, func(_ context.Context, q sum) (int, error) {
			if q.A < 0 {
				return 0, &ours.Error{Code: ours.CodeFirstUser, Message: "negative"}
			}
			return q.A + q.B, nil
		})
	})
	c := dial(t, address)
	if n, err := ours.Call(t.Context(), c, "add", sums, ints, sum{2, 3}); err != nil || n != 5 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ours.Call(t.Context(), c, "add", sums, ints, sum{-2, 3}); ours.CodeOf(err) != ours.CodeFirstUser {
		t.Error(err)
	}
	_, err := ours.Call(t.Context(), c, "add", codec.Raw, ints, []byte("nonsense"))
	if ours.CodeOf(err) != ours.CodeInvalidArgument {
		t.Error(err)
	}
	_, err = ours.Call(t.Context(), c, "add", sums, codec.JSON[string](), sum{2, 3})
	if ours.CodeOf(err) != ours.CodeInvalidArgument {
		t.Error(err)
	}
}

// TestDocs_RPCVectors_Match is the vector of docs/PROTOCOL.md.
func TestDocs_RPCVectors_Match(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	l, err := udsipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, address)
	done := make(chan string, 1)
	go func() { // Ends with the response below.
		response, err := c.Call(t.Context(), "greet", []byte("bob!"))
		done <- fmt.Sprintf("%s %v", response, err)
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := conn.ReadMessage()
	if want := "\x01\x01\x00\x05greetbob!"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := conn.WriteMessage([]byte("\x02\x01hello")); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "hello <nil>" {
		t.Error(got)
	}
}

// TestCall_AllocatesTwice twice: the call at the server, and the response at the client.
func TestCall_AllocatesTwice(t *testing.T) {
	if ipctest.RaceEnabled {
		t.Skip("the race detector allocates, and empties pools")
	}
	address := ipctest.SocketPath(t)
	serve(t, address, nil)
	c := dial(t, address)
	request := make([]byte, 128)
	if n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Call(context.Background(), "echo", request); err != nil {
			t.Error(err)
		}
	}); n > 2.5 { // A pool may be emptied.
		t.Errorf("%v allocations a call, want 2", n)
	}
}
