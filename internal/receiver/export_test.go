// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"net"

	"github.com/udsipc/udsipc/internal/transport"
)

// DiscardInherited plays the end of a connection that an earlier process has read from: what has come is read, and
// not handled, because Stop does not wait any longer.
func DiscardInherited(conn net.Conn) error {
	s := New(Config{Message: func([]byte) error { return nil }, Report: func(string, string, error) {}})
	limits := transport.Limits{MaxMessageSize: 1 << 20, ReadSize: 64 << 10, Inherited: true}
	c := &stream{connection: &connection{server: s, in: transport.NewIn(conn, limits, plenty{})}}
	err := c.in.Fill()
	c.in.Halt()
	c.discardUnhandled()
	c.in.ReleaseBuffer()
	c.in.Close()
	return err
}

// plenty is a limit on memory that is never reached.
type plenty struct{}

func (plenty) TryReserve(*transport.Reservation, int) bool         { return true }
func (plenty) Reserve(*transport.Reservation, int) <-chan struct{} { return nil }
func (plenty) Cancel(*transport.Reservation)                       {}
func (plenty) Release(*transport.Reservation, int64)               {}
func (plenty) Contested() bool                                     { return false }
