// SPDX-License-Identifier: Apache-2.0

package spool

// This file is the Writer: it puts messages on the disk. delivery.go sends them.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Writer keeps messages on the disk until the Reader at an address has handled them. NewWriter
// creates it; it accepts messages at once, connects after Start, and ends with Stop. All methods are
// safe for concurrent use.
type Writer struct {
	dir      string
	cfg      config
	disk     disk.Disk
	log      *journal.Log
	delivery *delivery
	stopping chan struct{} // Closed by Stop.
	closed   chan struct{} // Closed when the directory is free.
	closing  error         // Of closing the log; valid then.
	frames   sync.Pool     // Of *[]byte.
	tooLarge atomic.Uint64
	refused  atomic.Uint64

	syncing sync.Mutex // Held during a sync for Sync.

	mu       sync.Mutex // Guards what follows.
	started  bool
	stopped  bool
	nextSync *syncCall // The sync that has not begun; nil if nobody waits for one.
	flushed  uint64    // Messages that were not delivered, and that a Flush has reported.
}

// NewWriter opens the spool in a directory for the Reader at an address (udsipc.NewWriter). A missing
// directory is made with mode 0700; its parent must exist. The directory must belong to the user of the
// process, and nobody else may write to it (ErrUnsafe). It is locked until Stop (ErrSpoolInUse).
//
// Damaged files are no error: they are reported to the error callback or the logger, and what can be
// read is delivered. On Windows the error matches errors.ErrUnsupported.
func NewWriter(dir, address string, opts ...Option) (*Writer, error) {
	return open(dir, address, disk.Open, opts)
}

// open opens a spool with one of the functions of package disk.
func open(dir, address string, openDisk func(path string) (disk.Disk, error), opts []Option) (*Writer, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, cfg: cfg, stopping: make(chan struct{}), closed: make(chan struct{})}
	w.frames.New = func() any { return new([]byte) }
	if w.delivery, err = newDelivery(dir, address, &w.cfg); err != nil {
		return nil, err
	}
	if w.disk, err = openDisk(dir); err != nil {
		return nil, opError(udsipc.OpSpool, dir, err)
	}
	log, start, err := journal.Open(w.disk, w.logConfig())
	if err != nil {
		return nil, errors.Join(opError(udsipc.OpSpool, dir, err), w.disk.Close())
	}
	w.log = log
	w.delivery.use(log, start)
	w.delivery.face.PublishAs("spool", func() any { return w.Metrics() },
		"queued", "queued_bytes", "segments", "oldest_age_ns", "unsynced_bytes")
	return w, nil
}

// logConfig returns what the log needs to know of the options.
func (w *Writer) logConfig() journal.Config {
	return journal.Config{
		MaxBytes:    w.cfg.maxBytes,
		MinFree:     w.cfg.minFree,
		MaxAge:      w.cfg.maxAge,
		SegmentSize: w.cfg.segmentSize,
		DropOldest:  w.cfg.overflow == udsipc.OverflowDropOldest,
		Sync:        w.cfg.sync,
		Boot:        w.cfg.boot,
		OnDamage:    w.delivery.noteDamage,
		OnSyncError: w.delivery.noteFailure,
		OnGone:      w.delivery.noteGone,
	}
}

// Start begins to connect and to send, and returns at once. It may be called again; after Stop it
// returns udsipc.ErrStopped. A Writer with an empty spool connects when it has a message.
func (w *Writer) Start() error {
	first, err := w.start()
	if first {
		w.delivery.face.StartPublishing() // Without the lock: it may call the error callback, which may stop the Writer.
	}
	return err
}

// start starts the delivery, unless it has started before.
func (w *Writer) start() (first bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false, udsipc.ErrStopped
	}
	if w.started {
		return false, nil
	}
	w.started = true
	go w.delivery.run() // Ends with Stop, which waits for it.
	return true, nil
}

// WriteMessage writes a copy of data to the spool. An empty message is a message. A nil error means
// that it survives this process, with WithSync(0) the machine too. It waits for the disk, and for the
// reader only with OverflowBlock while the spool is full. Writes at the same time are one write of the file.
//
// It returns udsipc.ErrMessageTooLarge for a message over udsipc.WithMaxMessageSize, over the reader's
// limit once that is known, or larger than an empty spool, and udsipc.ErrStopped after Stop. Any other
// error matches ErrSpoolFull, or is that of the disk. After an error the message is not in the spool; if the disk
// fails to take back what it has, the next process may find it.
func (w *Writer) WriteMessage(data []byte) error {
	return w.write(context.Background(), w.cfg.overflow == udsipc.OverflowBlock, data)
}

// WriteMessageContext is WriteMessage, but if the spool is full it waits for room until ctx ends,
// whatever WithOverflow is. Then the error matches ErrSpoolFull and the error of ctx. It does not end
// the wait for the disk.
func (w *Writer) WriteMessageContext(ctx context.Context, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.write(ctx, true, data)
}

// WriteMessages is WriteMessage for several messages: all are in the spool, or none. It costs one write and
// one sync. Without a message it does nothing.
func (w *Writer) WriteMessages(messages [][]byte) error {
	return w.write(context.Background(), w.cfg.overflow == udsipc.OverflowBlock, messages...)
}

// WriteMessagesContext is WriteMessageContext for several messages: all are in the spool, or none.
func (w *Writer) WriteMessagesContext(ctx context.Context, messages [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.write(ctx, true, messages...)
}

// Lines returns an io.Writer that writes each line to the spool as a message (udsipc.LineWriter).
func (w *Writer) Lines() *udsipc.LineWriter {
	return seam.NewLineWriter(w.WriteMessage, w.delivery.face.MessageLimit()).(*udsipc.LineWriter)
}

// write frames messages and appends them to the log.
func (w *Writer) write(ctx context.Context, waits bool, messages ...[]byte) error {
	if len(messages) == 0 {
		return nil
	}
	if err := w.check(messages); err != nil {
		w.tooLarge.Add(uint64(len(messages)))
		return err
	}
	frames := w.frames.Get().(*[]byte)
	for _, message := range messages {
		*frames = wire.AppendFrame(*frames, message)
	}
	err := w.append(ctx, waits, *frames, len(messages))
	if err != nil && err != udsipc.ErrStopped {
		w.refused.Add(uint64(len(messages)))
	}
	if cap(*frames) <= keptFrames {
		*frames = (*frames)[:0]
		w.frames.Put(frames)
	}
	return err
}

// keptFrames is the largest memory for frames, in bytes, that is kept for the next write.
const keptFrames = 64 << 10

// check refuses messages that will never fit.
func (w *Writer) check(messages [][]byte) error {
	limit, own := w.delivery.messageLimit()
	size := int64(segment.HeaderSize + segment.BatchHeaderSize)
	for _, message := range messages {
		if uint64(len(message)) > limit {
			whose := "WithMaxMessageSize"
			if !own {
				whose = "the reader's WithMaxMessageSize"
			}
			return fmt.Errorf("%w: %d bytes, the limit is %d (%s)", udsipc.ErrMessageTooLarge, len(message), limit, whose)
		}
		size += int64(wire.FrameSize(len(message)))
	}
	if size > min(w.cfg.maxBytes, segment.MaxFrames) {
		return fmt.Errorf("%w: %d messages take %d bytes of the disk, the limit is %d (WithMaxBytes, at most %d at once)",
			udsipc.ErrMessageTooLarge, len(messages), size, w.cfg.maxBytes, segment.MaxFrames)
	}
	return nil
}

// append appends frames to the log. If the spool is full and waits is set, it waits for room.
func (w *Writer) append(ctx context.Context, waits bool, frames []byte, count int) error {
	for {
		var room <-chan struct{}
		if waits {
			room = w.log.Room()
		}
		_, err := w.log.Append(frames, count)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, journal.ErrClosed):
			return udsipc.ErrStopped
		case !waits || !errors.Is(err, ErrSpoolFull):
			return opError(udsipc.OpSpool, w.dir, err)
		}
		if waitErr := w.awaitRoom(ctx, room); waitErr != nil {
			if waitErr == udsipc.ErrStopped {
				return waitErr
			}
			return opError(udsipc.OpSpool, w.dir, fmt.Errorf("%w: %w", err, waitErr))
		}
	}
}

// roomCheck is how often a write looks for room that nobody tells of: another program has made it.
const roomCheck = 250 * time.Millisecond

// awaitRoom waits until there may be room, the Writer is stopped, or ctx has ended.
func (w *Writer) awaitRoom(ctx context.Context, room <-chan struct{}) error {
	timer := time.NewTimer(roomCheck)
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
	case <-w.stopping:
		return udsipc.ErrStopped
	case <-ctx.Done():
		return seam.EndOf(ctx)
	}
	return nil
}
