// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Reader whose handler gets many messages at a time: a transaction of a database, or
// a write with fsync, costs the same for one message and for a thousand.

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/receiver"
)

// A BatchHandler handles a batch of one message or more. The messages of each connection are in
// order. batch and the Data of its messages are valid until the handler returns; copy what is to be
// kept. The handler may change batch, but not the bytes of Data, because a redelivery uses the same
// memory. ctx ends with a forced stop.
//
// nil means that all messages of the batch are handled; in acknowledged mode they are acknowledged.
// An error, a panic, or the end of its goroutine (runtime.Goexit) is counted for each message and
// reported once:
//
//   - Acknowledged messages are offered again after 10 ms, with Redelivered set. What fails again is
//     halved until the message that fails is alone. The messages before it are handled then. That
//     message is redelivered as by any Reader (WithMaxRedeliveries), and becomes a dead letter in the
//     end (WithDeadLetter). Those behind it on its connection wait. A handler must therefore leave
//     nothing behind when it fails: roll back the transaction.
//   - Plain messages are delivered once, as by any Reader.
type BatchHandler func(ctx context.Context, batch []Delivery) error

// defaultMaxBatch is the default of WithMaxBatch.
const defaultMaxBatch = 1000

// NewBatchReader is NewReader for a handler that gets the messages in batches. A batch has what has
// arrived on one connection (WithSharedBatches: on all of them), at most WithMaxBatch messages. The
// Reader does not wait for more, unless WithMaxBatchWait is set: while the handler is busy, the next
// batch arrives. Handlers of different connections run concurrently, unless WithSharedBatches is set.
//
// Messages stay in the read buffer of their connection until the handler returns. So the messages of
// one connection in a batch have at most as many bytes as a read (WithReadBufferSize), or are one
// larger message, and those of all batches together are within WithMaxReadMemory. A batch also takes
// 100 bytes for each message that it has, whatever WithMaxBatch allows.
func NewBatchReader(handler BatchHandler, address string, opts ...ReaderOption) (*Reader, error) {
	if handler == nil {
		return nil, ErrHandlerNil
	}
	return newReader(handlers{batch: handler}, address, opts)
}

// WithMaxBatch sets the largest number of messages of a batch. The default is 1,000. Less than 1 is
// an error. It is for NewBatchReader.
func WithMaxBatch(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.batch.max, c.batch.option = n, fmt.Sprintf("WithMaxBatch(%d)", n) })
}

// WithMaxBatchWait sets how long the first message of a batch may wait for more. The default is 0: a
// batch has what is there. The handler is called earlier when the batch is full, when a connection with
// a part of it ends (WithInactivityTimeout), and when the Reader stops; and after 2 s without a message
// if the batch of a connection has more than 16 KiB. A wait makes batches larger, and adds to the
// latency of each message, only while the handler is idle. An acknowledged Writer keeps its messages
// meanwhile: a queue (WithMaxBufferedWrites) of less than WithMaxBatch messages stays full until the
// wait is over. A negative duration is an error. It is for NewBatchReader.
func WithMaxBatchWait(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) {
		c.batch.wait, c.batch.option = d, fmt.Sprintf("WithMaxBatchWait(%v)", d)
	})
}

// WithBatchWaitFrom sets how many bytes of a connection a batch must have to wait for more
// (WithMaxBatchWait). The default is 0: each batch waits. With 64 KiB, the messages of a Writer that sends
// now and then are handed over at once, and a Writer that sends all the time fills its batches. In shared
// batches (WithSharedBatches), a connection that does not wait ends the wait of the others, too. A negative
// number is an error. It is for NewBatchReader.
func WithBatchWaitFrom(bytes int) ReaderOption {
	return readerOption(func(c *readerConfig) {
		c.batch.waitFrom, c.batch.option = bytes, fmt.Sprintf("WithBatchWaitFrom(%d)", bytes)
	})
}

// WithSharedBatches gathers the messages of all connections into common batches, and has one handler
// call run at a time. The messages of each connection stay in order. Set it for a handler that holds
// a lock anyway, such as a database with one writer: a transaction then serves all connections.
//
// A failed batch delays all of its connections until the message that fails is found, but not while it
// is redelivered. A hung handler stops them all. The plain messages of a failed batch are not delivered
// again, whichever message it failed for. It is for NewBatchReader.
func WithSharedBatches() ReaderOption {
	return readerOption(func(c *readerConfig) { c.batch.shared, c.batch.option = true, "WithSharedBatches" })
}

// A batchConfig has the options of batches.
type batchConfig struct {
	max      int
	wait     time.Duration
	waitFrom int // Bytes.
	shared   bool
	option   string // The last of these that was set, as it was written.
}

func (c *batchConfig) check() error {
	switch {
	case c.max < 1:
		return fmt.Errorf("udsipc: WithMaxBatch(%d): want 1 or more", c.max)
	case c.wait < 0:
		return invalidTimeout("WithMaxBatchWait", c.wait, "0, which is no wait, or more")
	case c.waitFrom < 0:
		return fmt.Errorf("udsipc: WithBatchWaitFrom(%d): want 0, which has each batch wait, or more", c.waitFrom)
	}
	return nil
}

// receiver returns the settings of the server for handler.
func (c *batchConfig) receiver(handler BatchHandler) *receiver.Batches {
	return &receiver.Batches{Max: c.max, Wait: c.wait, WaitFrom: c.waitFrom, Shared: c.shared, New: func() receiver.Batch {
		b := batches.Get().(*deliveryBatch)
		b.handler = handler
		return b
	}}
}

// A deliveryBatch has the messages of one call of a handler.
type deliveryBatch struct {
	handler    BatchHandler
	deliveries []Delivery
}

// batches has unused batches. An idle connection has none.
var batches = sync.Pool{New: func() any { return new(deliveryBatch) }}

// maxPooledBatch is the largest batch whose memory is kept until the garbage collector wants it: 12 MiB. A
// read of 256 KiB has less, unless its messages are empty.
const maxPooledBatch = 1 << 17

func (b *deliveryBatch) Handle(ctx context.Context) error {
	return b.handler(ctx, b.deliveries[:len(b.deliveries):len(b.deliveries)])
}

func (b *deliveryBatch) Clear() {
	clear(b.deliveries)
	b.deliveries = b.deliveries[:0]
}

func (b *deliveryBatch) Free() {
	if b.Clear(); cap(b.deliveries) <= maxPooledBatch {
		b.handler = nil
		batches.Put(b)
	}
}

// addTo adds a message to a batch.
func (d *deliverer) addTo(to receiver.Batch, data []byte, seq uint64, redelivered bool) {
	b := to.(*deliveryBatch)
	b.deliveries = append(b.deliveries, Delivery{
		Data: data, Peer: d.known.Peer, Writer: d.known.Writer, Seq: seq, Redelivered: redelivered,
	})
}
