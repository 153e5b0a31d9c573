// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_CallbackGoexit_EndsWriter: nothing is accepted any more, nobody waits for space in vain, the connection is
// closed, and Stop returns what is left.
func TestWriter_CallbackGoexit_EndsWriter(t *testing.T) {
	const none = udsipc.StateNew // No state callback gets it.
	for name, test := range map[string]struct {
		at               udsipc.State // In the state callback.
		refused          bool         // In the error callback, because of the dialer.
		asked            bool         // In the authorizer.
		acks             bool
		peerReadsNothing bool // The connection has ended as soon as it is made.
	}{
		"connecting":             {at: udsipc.StateConnecting},
		"connected":              {at: udsipc.StateConnected},
		"connected in a session": {at: udsipc.StateConnected, acks: true},
		"disconnected":           {at: udsipc.StateDisconnected, peerReadsNothing: true},
		"the error of a dialer":  {at: none, refused: true},
		"the error of a session": {at: none, acks: true, peerReadsNothing: true},
		"the authorizer":         {at: none, asked: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			ipctest.StartReader(t, ipctest.Ignore, path)
			var dialed net.Conn
			var left uint64
			opts := []udsipc.WriterOption{
				udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBufferedWrites(1),
				udsipc.WithUndelivered(func([]byte) { left++ }),
				udsipc.WithWriterErrorCallback(func(error, string) { runtime.Goexit() }),
				udsipc.WithStateCallback(func(state udsipc.State, _ error) {
					if state == test.at {
						runtime.Goexit()
					}
				}),
				udsipc.WithAuthorizer(func(udsipc.Peer) error {
					if test.asked {
						runtime.Goexit()
					}
					return nil
				}),
				udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
					if test.refused {
						return nil, ipctest.ErrNotAllowed
					}
					conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
					if dialed = conn; err == nil && test.peerReadsNothing {
						err = conn.(*net.UnixConn).CloseRead()
					}
					return conn, err
				}),
			}
			if test.acks {
				opts = append(opts, udsipc.WithAcknowledgements())
			}
			w := ipctest.NewWriter(t, path, opts...)
			refused := make(chan error, 1)
			go func() { // Ends with the Writer.
				for {
					if err := w.WriteMessage([]byte("another")); err != nil {
						refused <- err
						return
					}
				}
			}()
			ipctest.MustStart(t, w)
			if err := ipctest.Await(t, "a message that is refused", refused); !errors.Is(err, udsipc.ErrStopped) {
				t.Errorf("WriteMessage: %v", err)
			}
			ipctest.Until(t, "the Writer has stopped",
				func() bool { return errors.Is(w.WaitConnected(t.Context()), udsipc.ErrStopped) })
			queued := w.Metrics().Queued
			if err := w.Stop(t.Context()); left != queued || queued > 0 && err == nil {
				t.Errorf("Stop: %v, %d messages returned of %d", err, left, queued)
			}
			if dialed != nil {
				if _, err := dialed.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("the connection is open: %v", err)
				}
			}
		})
	}
}
