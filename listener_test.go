// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestListener_Close_EndsAccept(t *testing.T) {
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	dialled, accepted := ipctest.Converse(t, l, path)
	waiting := make(chan error, 1)
	go func() { _, err := l.Accept(); waiting <- err }() // Ends with l.
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := ipctest.Await(t, "Accept", waiting); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := udsipc.Dial(t.Context(), path); !errors.Is(err, udsipc.ErrNoConsumer) {
		t.Error(err)
	}
	if err := dialled.WriteMessage([]byte("still here")); err != nil {
		t.Error(err)
	}
	if got, err := accepted.ReadMessage(); err != nil || string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestListener_RejectedPeers_AreReported(t *testing.T) {
	path := ipctest.SocketPath(t)
	errs := ipctest.Collect()
	l := ipctest.Listen(t, path, udsipc.WithMaxConnections(1), udsipc.WithReaderErrorCallback(errs.Callback))
	dialled, _ := ipctest.Converse(t, l, path)
	second, err := udsipc.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.ReadMessage(); err != io.EOF {
		t.Error(err)
	}
	errs.Want(t, udsipc.ErrTooManyConnections)
	dialled.Close()
}

// TestListener_ReaderOptions_AreErrors: an option that would do nothing is an error that names it.
func TestListener_ReaderOptions_AreErrors(t *testing.T) {
	for name, opt := range map[string]udsipc.ReaderOption{
		"WithDeadLetter":  udsipc.WithDeadLetter(func(*udsipc.Delivery, error) {}),
		"WithHungTimeout": udsipc.WithHungTimeout(time.Second),
	} {
		if _, err := udsipc.NewListener(ipctest.SocketPath(t), opt); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
