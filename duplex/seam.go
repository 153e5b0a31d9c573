// SPDX-License-Identifier: Apache-2.0

package duplex

// This file gives package rpc the methods of package seam for a Client, a Server and a ServerConn.
// They are not part of the public API.

import (
	"context"

	"github.com/udsipc/udsipc/internal/seam"
)

func init() {
	seam.OfClient = func(client any) seam.Link { return client.(*Client).seam }
	seam.OfServer = func(server any) any { return serverSeam{server.(*Server)} }
	seam.OfSession = func(session any) seam.Session { return sessionSeam{session.(*ServerConn)} }
}

// A serverSeam is a Server with the methods of seam.Server.
type serverSeam struct{ *Server }

var _ seam.Server[*ServerConn] = serverSeam{}

func (s serverSeam) OnTooLarge(callback func(session *ServerConn, e *seam.TooLarge)) {
	s.onTooLarge = callback
}

func (s serverSeam) OnStop(callback func(session *ServerConn)) { s.onStop = callback }

func (s serverSeam) PublishAs(kind string, snapshot func() any, gauges ...string) {
	s.seam.PublishAs(kind, snapshot, gauges...)
}

func (s serverSeam) Overflow() int { return s.seam.Overflow() }

func (s serverSeam) Report(op, peer string, err error) { s.seam.Report(op, peer, err) }

// A sessionSeam is a ServerConn with the methods of seam.Session.
type sessionSeam struct{ *ServerConn }

func (s sessionSeam) SendEncoded(message []byte) error { return s.conn.WriteMessage(message) }

func (s sessionSeam) TrySendEncoded(message []byte) error { return s.conn.TryWriteMessage(message) }

func (s sessionSeam) SendControl(message []byte) error { return s.seam.WriteControl(message) }

func (s sessionSeam) EnqueueBuffer(b seam.Buffer, from, to int) (idle bool, err error) {
	return s.seam.EnqueueBuffer(b, from, to)
}

func (s sessionSeam) WriteQueued() { s.seam.WriteQueued() }

func (s sessionSeam) KeepMessage() seam.Buffer { return s.seam.KeepMessage() }

func (s sessionSeam) Room() <-chan struct{} { return s.seam.Room() }

func (s sessionSeam) MaxMessageSize() uint64 { return s.seam.MaxMessageSize() }

func (s sessionSeam) Hold() {
	s.holdCount.Add(1)
	s.holdGroup.Add(1)
}

func (s sessionSeam) Release() {
	s.holdCount.Add(-1)
	s.holdGroup.Done()
}

func (s sessionSeam) PauseReading(ready <-chan struct{}) { s.readResume = ready }

func (s sessionSeam) ReceiveContext() context.Context { return s.receiveCtx }

func (s sessionSeam) Finish() { s.markFinished() }
