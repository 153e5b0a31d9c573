// SPDX-License-Identifier: Apache-2.0

package udsipc

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/sender"
)

// TestOpError_Text_SaysAThingOnce: the operation and the address, without the name of the package or of the same call.
func TestOpError_Text_SaysAThingOnce(t *testing.T) {
	const path = "/run/app.sock"
	at := &net.UnixAddr{Name: path, Net: "unix"}
	system := func(op, call string, errno syscall.Errno, addr net.Addr) error {
		return &net.OpError{Op: op, Net: "unix", Addr: addr, Err: os.NewSyscallError(call, errno)}
	}
	refused := fmt.Errorf("%w: %w", ErrNoConsumer, system("dial", "connect", syscall.ENOENT, at))
	peer := path + ", connection 3 (uid 1, gid 1, pid 1)"
	for _, test := range []struct {
		op, addr string
		err      error
		want     string
	}{
		{OpDial, path, refused, "dial " + path + ": nobody listens: connect: no such file or directory"},
		{OpDial, path, &sender.Outage{Attempts: 37, Away: 180e9, Err: refused},
			"dial " + path + ": nobody listens: connect: no such file or directory (still, after 37 attempts in 3m0s)"},
		{OpRead, peer, fmt.Errorf("%w: %w", ErrConnectionClosed, system("read", "read", syscall.ECONNRESET, nil)),
			"read " + peer + ": connection closed: connection reset by peer"},
		{OpWrite, path, fmt.Errorf("%w: %w", ErrConnectionClosed, system("write", "writev", syscall.EPIPE, at)),
			"write " + path + ": connection closed: broken pipe"},
		{OpWrite, path, &errdefs.PossibleLoss{Messages: 2, Err: ErrTooSlow},
			"write " + path + ": possible loss of up to 2 messages: peer is too slow"},
		{OpWrite, path, &errdefs.PossibleLoss{Messages: 1, Err: ErrTooSlow},
			"write " + path + ": possible loss of up to 1 message: peer is too slow"},
		{OpAuthorize, peer, fmt.Errorf("%w: no", ErrUnauthorized), "authorize " + peer + ": peer is not authorized: no"},
		{OpWaitConnected, path, fmt.Errorf("%w: %w; %w", ErrNotConnected, ErrNotStarted, io.EOF),
			"wait connected " + path + ": not connected: not started: call Start; EOF"},
		{OpStop, "", ErrStopped, "stop: stopped"},
		// Another address is said.
		{OpDial, "name", system("dial", "connect", syscall.ENOENT, at),
			"dial name: dial unix " + path + ": connect: no such file or directory"},
	} {
		if got := asOpError(test.op, test.addr, test.err).Error(); got != test.want {
			t.Errorf("%s\nwant\n%s", got, test.want)
		}
	}
}
