// SPDX-License-Identifier: Apache-2.0

package sender_test

// Producers that are faster than the connection, over all transports, with readers that come and go.

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_FastProducersRestartedReader_DeliversInOrder: with acknowledgements, each message is handled once.
func TestWriter_FastProducersRestartedReader_DeliversInOrder(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const producers, restarts = 4, 3
		messages := uint64(ipctest.InShort(200, 60))
		var last [producers]atomic.Uint64
		var handled atomic.Uint64
		handle := func(data []byte) error {
			producer := int(data[len(data)-1])
			checkStamped(t, data[:len(data)-1])
			if n := binary.BigEndian.Uint64(data); n != last[producer].Add(1) {
				t.Errorf("message %d of producer %d after %d", n, producer, last[producer].Load()-1)
			}
			handled.Add(1)
			return nil
		}
		w := on.StartWriter(t, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithAcknowledgements())
		var writing sync.WaitGroup
		for producer := range producers {
			writing.Go(func() {
				data := make([]byte, 100_000)
				for n := uint64(1); n <= restarts*messages; n++ {
					message := data[:[]int{9, 3_000, 30_000, 100_000}[n%4]]
					stamp(message[:len(message)-1], n)
					message[len(message)-1] = byte(producer)
					if err := w.WriteMessage(message); err != nil {
						t.Error(err)
					}
					clear(message)
				}
			})
		}
		for restart := range uint64(restarts) {
			r := on.StartReader(t, handle)
			ipctest.Until(t, "a part is handled", func() bool { return handled.Load() >= (restart+1)*producers*messages*9/10 })
			if restart < restarts-1 {
				ipctest.Stop(t, r)
			}
		}
		writing.Wait()
		ipctest.Stop(t, w)
		if n := handled.Load(); n != producers*restarts*messages {
			t.Errorf("%d messages were handled", n)
		}
	})
}
