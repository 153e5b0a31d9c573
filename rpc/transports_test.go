// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"crypto/tls"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// A place is where the servers of a test listen, one after the other, and how.
type place struct {
	address        string
	server, client *tls.Config // nil: without TLS.
}

// overTransports runs a test over each way to connect.
func overTransports(t *testing.T, test func(t *testing.T, p *place)) {
	for name, p := range map[string]*place{
		"unix":          {address: ipctest.SocketPath(t)},
		"tcp":           {address: ipctest.TcpAddress(t)},
		"tls over unix": {address: ipctest.SocketPath(t)},
		"tls over tcp":  {address: ipctest.TcpAddress(t)},
	} {
		if name[:3] == "tls" {
			p.server, p.client = ipctest.NewAuthority(t).Configs(t)
		}
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// serve is the function serve.
func (p *place) serve(tb testing.TB, prepare func(s *ours.Server), opts ...udsipc.ReaderOption) *ours.Server {
	tb.Helper()
	if p.server != nil {
		opts = append(opts, udsipc.WithTLS(p.server))
	}
	return serve(tb, p.address, prepare, opts...)
}

// dial is the function dial.
func (p *place) dial(tb testing.TB, opts ...udsipc.WriterOption) *ours.Client {
	tb.Helper()
	if p.client != nil {
		opts = append(opts, udsipc.WithTLS(p.client))
	}
	return dial(tb, p.address, opts...)
}
