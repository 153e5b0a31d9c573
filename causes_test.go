// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// This file has the errors of waits that their context has ended: each says why there was no connection.

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// connecting is what connects.
type connecting interface {
	Start() error
	WaitConnected(ctx context.Context) error
	Stop(ctx context.Context) error
}

// waits makes what connects, with one message, and returns a call that waits for a connection.
var waits = map[string]func(string, []udsipc.WriterOption) (connecting, func(context.Context) error, error){
	"Writer.Flush": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		w, err := udsipc.NewWriter(address, opts...)
		return w, w.Flush, errors.Join(err, w.WriteMessage([]byte("x")))
	},
	"Writer.Stop": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		w, err := udsipc.NewWriter(address, opts...)
		return w, w.Stop, errors.Join(err, w.WriteMessage([]byte("x")))
	},
	"Link.Flush": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		l, err := udsipc.NewLink(address, func([]byte) {}, opts...)
		return l, l.Flush, errors.Join(err, l.WriteMessage([]byte("x")))
	},
	"Link.Stop": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		l, err := udsipc.NewLink(address, func([]byte) {}, opts...)
		return l, l.Stop, errors.Join(err, l.WriteMessage([]byte("x")))
	},
	"duplex.Receive": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		c, err := duplex.NewClient(address, opts...)
		return c, func(ctx context.Context) error { _, err := c.Receive(ctx); return err }, err
	},
	"rpc.Call": func(address string, opts []udsipc.WriterOption) (connecting, func(context.Context) error, error) {
		c, err := rpc.NewClient(address, opts...)
		return c, func(ctx context.Context) error { _, err := c.Call(ctx, "x", nil); return err }, err
	},
}

// TestWaits_ContextEnds_SayWhy: the error matches the cause and the error of the context, and says how many wait.
func TestWaits_ContextEnds_SayWhy(t *testing.T) {
	address := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, address)
	for _, cause := range []struct {
		name, address string
		want          error
		opt           udsipc.WriterOption
	}{
		{name: "not started", want: udsipc.ErrNotStarted, address: address},
		{name: "nobody listens", want: udsipc.ErrNoConsumer, address: ipctest.SocketPath(t)},
		{name: "unauthorized", want: udsipc.ErrUnauthorized, address: address,
			opt: udsipc.WithAuthorizer(func(udsipc.Peer) error { return errors.New("not you") })},
		{name: "no TLS", want: udsipc.ErrHandshake, address: address,
			opt: udsipc.WithTLS(&tls.Config{ServerName: "reader"})},
		{name: "no answer in TLS", want: udsipc.ErrHandshake, address: silentPeer(t),
			opt: udsipc.WithTLS(&tls.Config{ServerName: "reader"})},
		{name: "no welcome", want: udsipc.ErrBackpressure, address: silentPeer(t), opt: udsipc.WithAcknowledgements()},
	} {
		for name, make := range waits {
			if cause.name == "no welcome" && !strings.HasPrefix(name, "Writer") {
				continue // Only a Writer takes the option.
			}
			t.Run(cause.name+"/"+name, func(t *testing.T) {
				c, wait, err := make(cause.address, []udsipc.WriterOption{cause.opt})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Stop(ended(t)) }()
				if cause.want != udsipc.ErrNotStarted {
					if err := c.Start(); err != nil {
						t.Fatal(err)
					}
				}
				ipctest.Until(t, "the cause is known", func() bool { return errors.Is(c.WaitConnected(ended(t)), cause.want) })
				err = c.WaitConnected(ended(t))
				if !errors.Is(err, udsipc.ErrNotConnected) || !errors.Is(err, context.Canceled) {
					t.Errorf("WaitConnected: %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				err = wait(ctx)
				atOnce := cause.want == udsipc.ErrNotStarted && strings.HasSuffix(name, "Stop")
				if !errors.Is(err, cause.want) || errors.Is(err, context.DeadlineExceeded) == atOnce {
					t.Errorf("%s: %v", name, err)
				}
				says := err.Error()
				if strings.Count(says, cause.address) > 1 || strings.Contains(says, ": udsipc: ") ||
					!strings.Contains(name, "Receive") && !strings.Contains(name, "Call") && !strings.Contains(says, "1 message ") {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
}

// TestWaits_CauseOfAContext_MatchesItsErrorToo: a context that was cancelled with a cause matches both.
func TestWaits_CauseOfAContext_MatchesItsErrorToo(t *testing.T) {
	why := errors.New("the program's own")
	for name, make := range waits {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		c, wait, err := make(ipctest.SocketPath(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{c.WaitConnected(ctx), wait(ctx)} {
			if !errors.Is(err, context.Canceled) || !errors.Is(err, why) && !strings.Contains(name, "Call") {
				t.Errorf("%s: %v", name, err)
			}
		}
		_ = c.Stop(ctx)
	}
}

// TestWaits_OldCause_IsForgotten: what an attempt failed with is no reason once another has succeeded.
func TestWaits_OldCause_IsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := errors.New("old")
		var up atomic.Bool
		w, err := udsipc.NewWriter("nowhere", udsipc.WithMaxBackoff(10*time.Millisecond),
			udsipc.WithDialer(func(context.Context) (net.Conn, error) {
				here, there := net.Pipe() // Nobody reads.
				if !up.Load() {
					return nil, errors.Join(old, there.Close(), here.Close())
				}
				return here, nil
			}))
		if err != nil || w.Start() != nil || w.WriteMessage([]byte("x")) != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := w.Flush(ended(t)); !errors.Is(err, old) {
			t.Error(err)
		}
		up.Store(true)
		if err := w.WaitConnected(t.Context()); err != nil {
			t.Error(err)
		}
		for _, err := range []error{w.Flush(ended(t)), w.Stop(ended(t))} {
			if errors.Is(err, old) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// silentPeer returns the address of a peer that accepts connections and says nothing.
func silentPeer(t *testing.T) string {
	address := ipctest.SocketPath(t)
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return address // Connections wait in the backlog.
}

// TestDial_CannotConnect_SaysMore than that nobody listens, if something else lies at the path, or somebody may listen.
func TestDial_CannotConnect_SaysMore(t *testing.T) {
	file, dir := ipctest.SocketPath(t), filepath.Dir(ipctest.SocketPath(t))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	denied := udsipc.WithDialer(func(context.Context) (net.Conn, error) { return nil, syscall.EACCES })
	for _, test := range []struct {
		address, want string
		opts          []udsipc.WriterOption
	}{
		{file, "nobody listens: a regular file lies there and no socket: ", nil},
		{dir, "nobody listens: a directory lies there and no socket: ", nil},
		{"nowhere", "no permission to connect: permission denied", []udsipc.WriterOption{denied}},
	} {
		_, err := udsipc.Dial(t.Context(), test.address, test.opts...)
		if want := "dial " + test.address + ": " + test.want; !errors.Is(err, udsipc.ErrNoConsumer) ||
			errors.Is(err, fs.ErrPermission) != (test.opts != nil) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
