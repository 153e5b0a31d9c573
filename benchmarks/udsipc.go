// SPDX-License-Identifier: Apache-2.0

package main

// The library itself, as its README shows it.

import (
	"context"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func openUDSIPC(tb testing.TB, receive func([]byte)) (func([]byte) error, func() error) {
	path := socketPath(tb)
	r, err := udsipc.NewReader(func(data []byte) error { receive(data); return nil }, path)
	start(tb, r, err)
	w, err := udsipc.NewWriter(path, udsipc.WithOverflow(udsipc.OverflowBlock))
	start(tb, w, err)
	if err := w.WaitConnected(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return w.WriteMessage, func() error { return nil } // A Writer never sits on a message.
}

// start runs one end until tb is over.
func start(tb testing.TB, end interface {
	Start() error
	Stop(context.Context) error
}, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	if err := end.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := end.Stop(ctx); err != nil {
			tb.Errorf("Stop: %v", err)
		}
	})
}
