// SPDX-License-Identifier: Apache-2.0

package main

// This file is one run of listen: from the batches of the Reader to the output, and the end.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
)

type listening struct {
	flags   *listenFlags
	env     *env
	console *console
	format  formatter
	out     output
	reader  *udsipc.Reader

	text      []byte // Of the batch in work.
	written   atomic.Uint64
	lost      atomic.Uint64 // Without acknowledgements, and not written.
	inSession atomic.Uint64 // Of written: those that are to be acknowledged.

	once    sync.Once
	failure error         // Why nothing more is written, nil for --count; set before failed is closed.
	failed  chan struct{} // Closed when the handler will return no more, except with an error.
}

// errBrokenPipe is the failure when nobody reads the standard output any more.
var errBrokenPipe = errors.New("nobody reads the standard output")

func (l *listening) run(ctx context.Context) int {
	signals := newListenSignals(l.flags.file.path != "") // Before systemd knows that it is ready.
	defer signals.stop()
	var err error
	if l.out, err = l.flags.file.open(l.env, l.console, l.flags.raw); err != nil {
		return l.env.fail(err)
	}
	defer l.out.close()
	if l.flags.file.path == "" && l.env.isTerminal(l.env.stdout) {
		l.format = visible(l.format)
	}
	if err := l.reader.Start(); err != nil {
		return l.env.fail(err)
	}
	stop := l.wait(ctx, signals)
	err = stop()
	l.console.erase()
	return l.exitCode(err)
}

// wait returns when it is time to end, and how.
func (l *listening) wait(ctx context.Context, signals listenSignals) (end func() error) {
	shown := l.flags.progress || l.console.redraw && !l.env.isTerminal(l.env.stdout)
	ticker := time.NewTicker(l.console.interval())
	defer ticker.Stop()
	rates := meter{}
	for {
		select {
		case <-ctx.Done():
			return l.stop
		case <-l.reader.Done():
			return l.stop
		case <-l.failed:
			return l.stop
		case <-signals.handOver:
			return l.handOver
		case <-signals.reopen:
			l.out.reopen()
		case now := <-ticker.C:
			if shown {
				l.console.progress(l.status(&rates, now))
			}
		}
	}
}

// stop ends the Reader: gracefully, unless a second interrupt comes or nothing can be written.
func (l *listening) stop() error {
	ctx, cancel := l.untilFailed()
	defer cancel()
	return l.reader.Stop(ctx)
}

// handOver ends the Reader and leaves its connections to the next process.
func (l *listening) handOver() error {
	ctx, cancel := l.untilFailed()
	defer cancel()
	return l.reader.HandOver(ctx)
}

// untilFailed returns a context that ends when waiting for the handler makes no sense.
func (l *listening) untilFailed() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(l.env.force)
	go func() { // Ends with the context.
		select {
		case <-l.failed:
			if l.failure == nil {
				l.awaitAcknowledged(ctx)
			}
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// awaitAcknowledged waits until all that was written is acknowledged, but not for long: a writer may be gone.
func (l *listening) awaitAcknowledged(ctx context.Context) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		if l.reader.Metrics().Acknowledged >= l.inSession.Load() {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// exitCode reports why it ended.
func (l *listening) exitCode(err error) int {
	m := l.reader.Metrics()
	lost := m.Discarded + l.lost.Load()
	if lost > 0 {
		l.env.logf("%s without acknowledgements lost", plural(lost, "message"))
	}
	switch {
	case errors.Is(l.failure, errBrokenPipe):
		l.env.brokenPipe = true
		return exitFailed
	case l.failure != nil:
		return l.env.fail(l.failure)
	case l.reader.Err() != nil:
		return l.env.fail(l.reader.Err())
	case l.flags.count > 0 && l.written.Load() >= l.flags.count:
		return exitOK
	case lost > 0 || l.env.force.Err() != nil:
		return exitFailed
	case err != nil:
		return l.env.fail(err)
	}
	return exitOK
}

// handle writes a batch. It returns nil when that is done, and an error only after ctx has ended: so nothing that is
// not written is acknowledged, or given up as a dead letter.
func (l *listening) handle(ctx context.Context, batch []udsipc.Delivery) error {
	if l.full() {
		return l.give(ctx, batch, nil)
	}
	l.text = l.text[:0]
	now := time.Now()
	for i := range batch {
		before := len(l.text)
		l.text = l.format(l.text, &batch[i], now)
		if limit := uint64(l.flags.file.size); limit > 0 && before > 0 && uint64(len(l.text)) > limit {
			if err := l.out.write(ctx, l.console, l.text[:before]); err != nil {
				return l.give(ctx, batch, err)
			}
			l.text = append(l.text[:0], l.text[before:]...)
		}
	}
	if err := l.out.write(ctx, l.console, l.text); err != nil {
		return l.give(ctx, batch, err)
	}
	if cap(l.text) > maxKeptMessage {
		l.text = nil
	}
	for i := range batch {
		if batch[i].Writer != (udsipc.WriterID{}) {
			l.inSession.Add(1)
		}
	}
	if l.written.Add(uint64(len(batch))); l.full() {
		l.once.Do(func() { close(l.failed) })
	}
	return nil
}

// full reports whether --count messages are written.
func (l *listening) full() bool { return l.flags.count > 0 && l.written.Load() >= l.flags.count }

// give ends the command: it waits until the Reader is stopped by force, and has the batch sent again.
func (l *listening) give(ctx context.Context, batch []udsipc.Delivery, err error) error {
	l.once.Do(func() {
		l.failure = err
		close(l.failed)
	})
	<-ctx.Done()
	for i := range batch {
		if batch[i].Writer == (udsipc.WriterID{}) {
			l.lost.Add(1)
		}
	}
	return errors.Join(err, ctx.Err())
}

// status returns the line of progress.
func (l *listening) status(rates *meter, now time.Time) string {
	m := l.reader.Metrics()
	messageRate, byteRate := rates.add(now, l.written.Load(), m.ReceivedBytes)
	return fmt.Sprintf("%s messages, %s, %s messages/s, %s/s, %s", formatCount(float64(l.written.Load())),
		formatBytes(float64(m.ReceivedBytes)), formatCount(messageRate), formatBytes(byteRate),
		plural(m.Connections, "connection"))
}
