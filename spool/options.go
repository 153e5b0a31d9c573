// SPDX-License-Identifier: Apache-2.0

package spool

// This file is what can be set.

import (
	"fmt"
	"slices"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/disk"
)

// An Option configures a Writer or a Deliver.
type Option func(*config)

type config struct {
	maxBytes    int64
	minFree     uint64
	maxAge      time.Duration
	segmentSize int64
	overflow    udsipc.OverflowPolicy
	sync        time.Duration
	writer      []udsipc.WriterOption
	boot        [16]byte // Of the machine.
}

func newConfig(opts []Option) (config, error) {
	c := config{maxBytes: 1 << 30, minFree: 64 << 20, segmentSize: 16 << 20, sync: time.Second, boot: disk.Boot()}
	for _, opt := range opts {
		if opt != nil {
			opt(&c)
		}
	}
	switch {
	case c.maxBytes < minSpool:
		return c, fmt.Errorf("%w: WithMaxBytes(%d): want at least %d", udsipc.ErrInvalidBufferSize, c.maxBytes, minSpool)
	case c.segmentSize < minSegment:
		return c, fmt.Errorf("%w: WithSegmentSize(%d): want at least %d",
			udsipc.ErrInvalidBufferSize, c.segmentSize, minSegment)
	case c.maxAge < 0:
		return c, fmt.Errorf("%w: WithMaxAge(%v): want 0, which is never, or more", udsipc.ErrInvalidTimeout, c.maxAge)
	case c.overflow < udsipc.OverflowRefuse || c.overflow > udsipc.OverflowDropOldest:
		return c, fmt.Errorf("udsipc: WithOverflow(%v): no such policy", c.overflow)
	}
	return c, nil
}

const (
	minSpool   = 64 << 10 // Of WithMaxBytes.
	minSegment = 4 << 10  // Of WithSegmentSize.
)

// WithMaxBytes sets the largest size of all segments together, in bytes. The default is 1 GiB, the
// minimum 64 KiB. A message takes its length, one to five bytes of prefix, and 24 bytes for each write
// that it shares with others. A message that would not fit into an empty spool is ErrMessageTooLarge.
func WithMaxBytes(bytes int64) Option { return func(c *config) { c.maxBytes = bytes } }

// WithMinFree sets how many bytes of the file system a write leaves free, for the other users of the
// disk. The default is 64 MiB. It is asked for now and then, so that a write may leave some MiB less. 0 is
// to fill the disk.
func WithMinFree(bytes uint64) Option { return func(c *config) { c.minFree = bytes } }

// WithMaxAge sets how long a message may wait for the reader. Older ones are dropped, a segment at a
// time, and counted as expired: a message waits up to an eighth longer. While there is a connection, one that
// is being sent may arrive. The clock is that of the wall, because it goes on over restarts. The default, 0,
// is no limit. A negative duration is an error.
func WithMaxAge(d time.Duration) Option { return func(c *config) { c.maxAge = d } }

// WithOverflow sets what a write does when the spool is full: return ErrSpoolFull
// (udsipc.OverflowRefuse, the default), wait for room (udsipc.OverflowBlock), or drop the oldest
// segment (udsipc.OverflowDropOldest). While there is a connection, messages of a dropped segment that
// are being sent may arrive.
func WithOverflow(policy udsipc.OverflowPolicy) Option {
	return func(c *config) { c.overflow = policy }
}

// WithSync sets how long a message may be in the kernel only, where it survives the process and not the
// machine. The default is 1 s. 0 is not at all: a write returns when the disk has its messages; those
// who wait share a sync. A negative interval is forever: the kernel writes when it likes, and a loss of
// power may take everything back that is not handled. Messages that are handled in time are never
// synced.
func WithSync(interval time.Duration) Option { return func(c *config) { c.sync = interval } }

// WithSegmentSize sets the size in bytes at which a new file is begun. The default is 16 MiB, or a
// quarter of WithMaxBytes if that is less; the minimum is 4 KiB. Files are removed, expire and are dropped as a
// whole.
func WithSegmentSize(bytes int64) Option { return func(c *config) { c.segmentSize = bytes } }

// WithWriter passes options to the udsipc.Writer that sends: WithTLS, WithAuthorizer, WithLogger,
// WithWriterErrorCallback and so on. WithUndelivered gets the messages that the reader refuses, and no
// others. Acknowledgements are always on. Options for which the spool has its own, or none, are an
// error of NewWriter: WithOverflow, WithMaxAge, WithMaxBufferedBytes, WithMaxBufferedWrites,
// WithIdentity, WithHandled.
func WithWriter(opts ...udsipc.WriterOption) Option {
	return func(c *config) { c.writer = append(c.writer, opts...) }
}

// writerOptions returns the options of a Writer below, with more behind them.
func (c *config) writerOptions(more ...udsipc.WriterOption) []udsipc.WriterOption {
	return append(slices.Clip(c.writer), more...)
}
