// SPDX-License-Identifier: Apache-2.0

package main

// This file is what send writes to: a Writer, or one whose queue is on the disk.

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// An outlet takes messages and delivers them.
type outlet interface {
	Start() error
	WriteMessage(data []byte) error
	Stop(ctx context.Context) error

	// finish delivers what is left, and returns when that is done or Stop ends it.
	finish() error
	counts() counts
}

// counts tell what became of the messages of an outlet.
type counts struct {
	found        uint64 // Left in the spool by earlier processes.
	arrived      uint64
	accepted     uint64 // By the queue or the spool.
	queued       uint64
	queuedBytes  uint64
	refused      uint64 // The queue was full, and the policy is to drop the newest.
	dropped      uint64 // As the oldest.
	expired      uint64 // --max-age.
	undelivered  uint64 // Given up, or rejected by the reader.
	damaged      uint64 // In the spool.
	possiblyLost uint64
	unread       uint64 // Passed to the kernel, and perhaps not read when send gave up.
	connected    bool
}

// missing returns how many messages have not arrived, or perhaps not, and will not.
func (c counts) missing() uint64 {
	return c.refused + c.dropped + c.expired + c.undelivered + c.damaged + c.possiblyLost + c.unread
}

// A memoryOutlet is a Writer.
type memoryOutlet struct{ *udsipc.Writer }

func (o memoryOutlet) finish() error { return stopPatiently(o) }

// stopPatiently waits for as long as it takes: another Stop, or --timeout, ends it. Without a deadline the library
// would warn that there is none.
func stopPatiently(o interface {
	Stop(ctx context.Context) error
}) error {
	ctx, cancel := context.WithTimeout(context.Background(), forever)
	defer cancel()
	return o.Stop(ctx)
}

const forever = 10 * 365 * 24 * time.Hour

func (o memoryOutlet) counts() counts {
	m := o.Metrics()
	return counts{
		accepted: m.Accepted, arrived: m.Sent - min(m.Sent, m.PossiblyLost), queued: m.Queued, queuedBytes: m.QueuedBytes,
		refused: m.Refused, dropped: m.Dropped, expired: m.Expired, undelivered: m.Undelivered,
		possiblyLost: m.PossiblyLost, connected: m.Connected,
	}
}

// A spoolOutlet is a Writer whose queue is on the disk.
type spoolOutlet struct {
	*spool.Writer
	wait bool // At the end, until the reader has everything.
}

func (o spoolOutlet) finish() error {
	if o.wait {
		return stopPatiently(o)
	}
	return o.Close() // Until an attempt to connect fails, or forever (WithCloseTimeout).
}

func (o spoolOutlet) counts() counts {
	m := o.Metrics()
	return counts{
		found: m.Found, accepted: m.Accepted, arrived: m.Sent, queued: m.Queued, queuedBytes: m.QueuedBytes,
		refused: m.Refused, dropped: m.Dropped, expired: m.Expired, undelivered: m.Undelivered, damaged: m.Damaged,
		connected: m.Writer.Connected,
	}
}

// newOutlet returns the outlet that the flags of send ask for.
func (f *sendFlags) newOutlet(address string, console *console) (outlet, error) {
	options, err := f.peer.writerOptions()
	if err != nil {
		return nil, err
	}
	options = append(options, udsipc.WithLogger(console.logger()))
	policy, ok := policies[f.overflow]
	if !ok {
		return nil, errors.New("--overflow: want block, drop-oldest or drop-newest")
	}
	if f.spool != "" {
		options = append(options, udsipc.WithCloseTimeout(forever))
		return f.newSpool(address, policy, options)
	}
	options = append(options, udsipc.WithOverflow(policy), udsipc.WithMaxAge(f.maxAge),
		udsipc.WithMaxBufferedBytes(uint64(f.queueBytes)))
	if f.queue != defaultMaxQueue { // By default producers that wait may queue more small messages.
		options = append(options, udsipc.WithMaxBufferedWrites(uint32(min(f.queue, math.MaxUint32))))
	}
	if f.ack {
		options = append(options, udsipc.WithAcknowledgements())
	}
	w, err := udsipc.NewWriter(address, options...)
	return memoryOutlet{w}, err
}

func (f *sendFlags) newSpool(address string, policy udsipc.OverflowPolicy, options []udsipc.WriterOption) (
	outlet, error) {
	spoolOptions := []spool.Option{
		spool.WithWriter(options...), spool.WithOverflow(policy), spool.WithSync(f.spoolSync),
		spool.WithMaxBytes(int64(min(f.spoolSize, math.MaxInt64))),
	}
	if f.maxAge > 0 {
		spoolOptions = append(spoolOptions, spool.WithMaxAge(f.maxAge))
	}
	w, err := spool.NewWriter(f.spool, address, spoolOptions...)
	if isOfDirectory(err) {
		err = directoryError{err}
	}
	return spoolOutlet{w, f.spoolWait}, err
}

// A directoryError is an error of the spool's directory: the arguments can be.
type directoryError struct{ error }

// isOfDirectory reports whether a spool cannot be opened for what is on the disk, and not for its options.
func isOfDirectory(err error) bool {
	return errors.Is(err, spool.ErrSpoolInUse) || errors.Is(err, spool.ErrUnsafe) || errors.Is(err, spool.ErrDamaged) ||
		errors.As(err, new(*fs.PathError)) || errors.As(err, new(syscall.Errno))
}

// policies are the values of --overflow.
var policies = map[string]udsipc.OverflowPolicy{
	"block":       udsipc.OverflowBlock,
	"drop-oldest": udsipc.OverflowDropOldest,
	"drop-newest": udsipc.OverflowRefuse,
}

// Defaults of the library.
const (
	defaultSpoolSync  = time.Second
	defaultSpoolSize  = 1 << 30
	defaultQueueBytes = 64 << 20
)
