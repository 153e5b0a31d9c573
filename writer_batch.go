// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Writer's side of several messages at once: all or none of them.

import (
	"context"
	"fmt"

	"github.com/udsipc/udsipc/internal/queue"
)

// WriteMessages is WriteMessage for several messages: all are queued, one after the other, or none.
// It costs one lock, and never writes a message from the caller's memory. Without a message it does
// nothing.
//
// The errors are those of WriteMessage, and concern the whole batch. ErrBufferFull means that there is
// no space for all of them now. ErrMessageTooLarge means that a message is over WithMaxMessageSize, or
// that the batch is larger than the whole queue (WithMaxBufferedBytes, WithMaxBufferedWrites): it will
// never fit. With OverflowBlock the call waits for space for all, with OverflowDropOldest it drops as
// many old messages as that takes, or none. Metrics count messages, not batches.
//
// In the queue each message is one of its own again. The reader gets them in order, but a Writer that
// is killed, or stopped by force, may have delivered only the first ones.
func (w *Writer) WriteMessages(messages [][]byte) error {
	return w.writeBatch(context.Background(), w.cfg.overflow == OverflowBlock, queue.BatchOfMessages(messages))
}

// WriteMessagesContext is WriteMessages, but if there is no space for all of them it waits until ctx ends,
// whatever WithOverflow is. Then the error matches ErrBufferFull and the error of ctx.
func (w *Writer) WriteMessagesContext(ctx context.Context, messages [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.writeBatch(ctx, true, queue.BatchOfMessages(messages))
}

// WriteFrames is WriteMessages for count messages that are framed already, as the protocol frames them:
// each is its length as an unsigned varint (binary.AppendUvarint), then its bytes. It copies frames
// as a whole. If frames are not exactly count whole frames with the shortest lengths, the error matches
// ErrInvalidLengthPrefix and names the frame, and nothing is queued.
func (w *Writer) WriteFrames(frames []byte, count int) error {
	b, err := queue.BatchOfFrames(frames, count)
	if err != nil {
		return err
	}
	return w.writeBatch(context.Background(), w.cfg.overflow == OverflowBlock, b)
}

func (w *Writer) writeBatch(ctx context.Context, waits bool, b queue.Batch) error {
	if b.Count == 0 {
		return nil
	}
	if uint64(b.Largest) > w.loop.MessageLimit() {
		return fmt.Errorf("%w (the largest of %d messages at once)", w.tooLargeErr(b.Largest, b.Count), b.Count)
	}
	var err error
	if waits {
		err = w.queue.EnqueueBatchWaitAndWake(ctx, b)
	} else {
		err = w.queue.EnqueueBatchAndWake(b)
	}
	return w.countTooLarge(err, b.Count)
}
