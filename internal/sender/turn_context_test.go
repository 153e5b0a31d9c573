// SPDX-License-Identifier: Apache-2.0

package sender_test

// The context of a producer that writes itself is the program's: its methods may use the Writer, or
// panic.

import (
	"context"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A foreignContext calls a function when it is asked for its error or for its channel.
type foreignContext struct {
	context.Context
	asked func()
}

func (c foreignContext) Err() error {
	c.asked()
	return nil
}

func (c foreignContext) Done() <-chan struct{} {
	c.asked()
	return nil
}

// floods writes until producers have written themselves for a while.
func floods(t *testing.T, w *udsipc.Writer, ctx context.Context) {
	data := make([]byte, 16<<10)
	for range 5000 {
		func() {
			defer func() { _ = recover() }()
			if err := w.WriteMessageContext(ctx, data); err != nil {
				t.Error(err)
			}
		}()
	}
}

// TestWriter_ContextThatUsesWriter_IsAskedWithoutLock or the call would wait for itself.
func TestWriter_ContextThatUsesWriter_IsAskedWithoutLock(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, path)
	w := ipctest.StartedWriter(t, path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		floods(t, w, foreignContext{context.Background(), func() { w.Metrics() }})
	}()
	_, _ = ipctest.AwaitOpen(t, "the end of the flood", done)
	ipctest.Stop(t, w)
}

// TestWriter_ContextThatPanics_LeavesWriterIntact: the panic is the program's affair.
func TestWriter_ContextThatPanics_LeavesWriterIntact(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, path)
	w := ipctest.StartedWriter(t, path)
	asked := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		floods(t, w, foreignContext{context.Background(), func() {
			if asked++; asked%3 == 0 {
				panic("mine")
			}
		}})
	}()
	_, _ = ipctest.AwaitOpen(t, "the end of the flood", done)
	ipctest.Stop(t, w)
	if m := w.Metrics(); m.Queued != 0 || m.Sent != m.Accepted {
		t.Errorf("%d of %d messages were sent", m.Sent, m.Accepted)
	}
}
