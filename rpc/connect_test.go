// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// TestServer_OnConnect_ComesBeforeCalls: the function has returned before a handler runs, and the end of the
// connection is told by its context.
func TestServer_OnConnect_ComesBeforeCalls(t *testing.T) {
	overTransports(t, func(t *testing.T, p *place) {
		var connected atomic.Pointer[duplex.ServerConn]
		ended := make(chan struct{})
		s := p.serve(t, func(s *ours.Server) {
			s.OnConnect(func(c *duplex.ServerConn) {
				context.AfterFunc(c.Context(), func() { close(ended) })
				connected.Store(c)
			})
			s.Handle("known", func(ctx context.Context, _ []byte) ([]byte, error) {
				if call, ok := ours.CallFromContext(ctx); !ok || call.Conn != connected.Load() {
					return nil, errors.New("another connection")
				}
				return nil, nil
			})
		})
		c := p.dial(t)
		if _, err := c.Call(t.Context(), "known", nil); err != nil {
			t.Error(err)
		}
		ipctest.Stop(t, c)
		ipctest.Await(t, "the context of the connection ends", ended)
		defer func() {
			if recover() == nil {
				t.Error("no panic after Start")
			}
		}()
		s.OnConnect(func(*duplex.ServerConn) {})
	})
}
