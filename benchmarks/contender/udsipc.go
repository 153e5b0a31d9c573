// SPDX-License-Identifier: Apache-2.0

package contender

// The library itself, as its README shows it.

import (
	"context"
	"io"
	"time"

	"github.com/udsipc/udsipc"
)

func listenUDSIPC(end End, receive func([]byte)) (io.Closer, error) {
	r, err := udsipc.NewReader(func(data []byte) error { receive(data); return nil }, end.socket())
	if err != nil {
		return nil, err
	}
	return closers{func() error { return stop(r) }}, r.Start()
}

func stop(end interface{ Stop(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return end.Stop(ctx)
}

type writer struct{ *udsipc.Writer }

func (w writer) Send(data []byte) error { return w.WriteMessage(data) }
func (w writer) Close() error           { return stop(w) }

func (w writer) Flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return w.Writer.Flush(ctx)
}

func dialUDSIPC(end End) (Sender, error) { return openWriter(end) }

func dialAcknowledged(end End) (Sender, error) { return openWriter(end, udsipc.WithAcknowledgements()) }

func openWriter(end End, opts ...udsipc.WriterOption) (Sender, error) {
	w, err := udsipc.NewWriter(end.socket(), append(opts, udsipc.WithOverflow(udsipc.OverflowBlock))...)
	if err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return writer{w}, w.WaitConnected(ctx)
}
