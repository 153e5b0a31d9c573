// SPDX-License-Identifier: Apache-2.0

package duplex

// This file is what package rpc needs of a Client, a Server and a Session, and users do not:
// the methods of package seam, which stay out of the public ones.

import (
	"context"

	"github.com/udsipc/udsipc/internal/seam"
)

func init() {
	seam.OfClient = func(client any) seam.Link { return client.(*Client).seam }
	seam.OfServer = func(server any) any { return serverSeam{server.(*Server)} }
	seam.OfSession = func(session any) seam.Session { return sessionSeam{session.(*Session)} }
}

// A serverSeam is a Server with the methods of seam.Server.
type serverSeam struct{ *Server }

var _ seam.Server[*Session] = serverSeam{}

func (s serverSeam) OnTooLarge(callback func(session *Session, e *seam.TooLarge)) {
	s.onTooLarge = callback
}

func (s serverSeam) OnStop(callback func(session *Session)) { s.onStop = callback }

func (s serverSeam) Overflow() int { return s.seam.Overflow() }

func (s serverSeam) Report(op, peer string, err error) { s.seam.Report(op, peer, err) }

// A sessionSeam is a Session with the methods of seam.Session.
type sessionSeam struct{ *Session }

func (s sessionSeam) SendEncoded(message []byte) error { return s.conn.WriteMessage(message) }

func (s sessionSeam) TrySendEncoded(message []byte) error { return s.conn.TryWriteMessage(message) }

func (s sessionSeam) SendControl(message []byte) error { return s.seam.WriteControl(message) }

func (s sessionSeam) Room() <-chan struct{} { return s.seam.Room() }

func (s sessionSeam) MaxMessageSize() uint64 { return s.seam.MaxMessageSize() }

func (s sessionSeam) Hold() {
	s.holds.Add(1)
	s.held.Add(1)
}

func (s sessionSeam) Release() {
	s.holds.Add(-1)
	s.held.Done()
}

func (s sessionSeam) PauseReading(ready <-chan struct{}) { s.resume = ready }

func (s sessionSeam) ReceiveContext() context.Context { return s.input }

func (s sessionSeam) Finish() { s.markFinished() }
