// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// TestDocs_RPCVectors_Match has vectors of docs/PROTOCOL.md.
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
	stream, err := c.OpenStream(t.Context(), "watch", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	got, err = conn.ReadMessage()
	if want := "\x06\x02\x00\x05watch\x80\x80\x40x"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	ctx, cancel := context.WithCancel(rpc.WithMetadata(context.Background(), rpc.Metadata{"k": "v1"}))
	go func() { // Ends with its context.
		_, _ = c.Call(ctx, "get", []byte("x"))
	}()
	got, err = conn.ReadMessage()
	if want := "\x01\x03\x00\x09get\x00\x01k\x02v1x"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	cancel()
}
