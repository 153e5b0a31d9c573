// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// TestStream_ReceivedData_StaysValid until the next call of Receive, whatever comes meanwhile, on this
// stream and on others; and all memory is given back.
func TestStream_ReceivedData_StaysValid(t *testing.T) {
	t.Parallel()
	const streams, messages = 4, 200
	sizes := []int{0, 1, 100, 5_000, 20_000, 40_000, 300_000}
	message := func(stream, n int) []byte {
		return bytes.Repeat([]byte{byte(stream*31 + n)}, sizes[(stream+n)%len(sizes)])
	}
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.HandleStream("echoes", func(_ context.Context, stream *ours.Stream) error {
			for {
				data, err := stream.Receive()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				before := bytes.Clone(data)
				if err := stream.Send(data); err != nil { // It waits for the client, while more comes.
					return err
				}
				if !bytes.Equal(data, before) {
					t.Error("a message has changed before the next call of Receive")
				}
			}
		})
	})
	c := dial(t, address)
	var all sync.WaitGroup
	for i := range streams {
		stream, err := c.OpenStream(t.Context(), "echoes", nil)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for n := range messages {
				if err := stream.Send(message(i, n)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			defer stream.Close()
			for n := range messages {
				if data, err := stream.Receive(); err != nil || !bytes.Equal(data, message(i, n)) {
					t.Errorf("stream %d, message %d: %d bytes, %v", i, n, len(data), err)
					return
				}
			}
			if _, err := stream.Receive(); err != io.EOF {
				t.Errorf("stream %d: %v at the end", i, err)
			}
		})
	}
	all.Wait()
	ipctest.Until(t, "all memory is given back", func() bool {
		m := s.Metrics()
		return m.StreamBytes == 0 && m.ActiveCalls == 0
	})
}
