// SPDX-License-Identifier: Apache-2.0

package main

// This file is one run of send: from the inputs into the outlet, with progress; account.go tells of its end.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

type sending struct {
	flags   *sendFlags
	env     *env
	console *console
	out     outlet
	began   time.Time

	messages, bytes atomic.Uint64 // That were read and passed to the outlet.
	skipped         uint64        // Lines over the limit.
	cut             bool          // An interrupt has ended an input that had more.
	ended           bool          // An interrupt has ended the input.
	finishing       atomic.Bool   // All of the input is queued.
	gaveUp          atomic.Bool   // --timeout.
	connected       atomic.Bool   // When it gave up.
	toldFull        bool          // That the spool has no room; of watch.
	unread          uint64        // Passed to the kernel, but not read by the reader when it was stopped.
}

// send sends all inputs and waits until all has arrived.
func (s *sending) send(ctx context.Context, files []string) error {
	stop, cancel := context.WithCancel(s.env.force) // Ends it at once: the second interrupt, or --timeout.
	defer cancel()
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, over, cancel)
	}()
	stopped := make(chan error, 1)
	forced := context.AfterFunc(stop, func() { stopped <- s.out.Stop(stop) }) // Wakes a write, and finish.
	read := s.sendInputs(ctx, stop, files)
	s.finishing.Store(true)
	finished := s.out.finish()
	s.noteUnread(finished)
	if !forced() {
		err := <-stopped
		if s.noteUnread(err); finished == nil {
			finished = err // One of the two calls reports what is left.
		}
	}
	close(over)
	<-watched
	if read != nil && !errors.Is(read, udsipc.ErrStopped) {
		return read
	}
	return finished // It knows why nothing more could be queued.
}

// noteUnread takes from an error of Stop how many messages the reader may not have read.
func (s *sending) noteUnread(err error) {
	var unread interface {
		error
		UnreadMessages() uint64
	}
	if errors.As(err, &unread) {
		s.unread += unread.UnreadMessages()
	}
}

// sendInputs sends the files, or the standard input without any, and returns when all of it is queued.
func (s *sending) sendInputs(ctx, stop context.Context, files []string) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		if ctx.Err() != nil {
			s.ended = true
			return fmt.Errorf("interrupted before %s", name)
		}
		if err := s.sendFile(ctx, stop, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *sending) sendFile(ctx, stop context.Context, name string) error {
	from := s.env.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		from = file
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)() // --timeout ends an input that brings nothing, too.
	in := newInput(reading, from)
	defer in.close()
	d := newDivider(in, uint64(s.flags.peer.maxMessage))
	d.interrupted = func() bool { return in.ended }
	if d.long = s.flags.longLines; s.flags.null {
		d.end = 0
	}
	next := d.line
	switch {
	case s.flags.frames:
		next = d.frame
	case s.flags.file:
		next = d.whole
	}
	err := s.sendMessages(stop, next)
	s.skipped += d.skipped
	s.ended = s.ended || in.ended
	s.cut = s.cut || in.cut || in.ended && (name != "-" || s.gaveUp.Load()) || errors.Is(err, udsipc.ErrStopped)
	if err != nil && name != "-" {
		return fmt.Errorf("%s: %w", name, strippedPath(err))
	}
	return err
}

// strippedPath returns an error without the name of the file, which stands before it.
func strippedPath(err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}

// sendMessages queues messages until io.EOF.
func (s *sending) sendMessages(stop context.Context, next func() ([]byte, error)) error {
	for stop.Err() == nil {
		message, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		s.messages.Add(1)
		s.bytes.Add(uint64(len(message)))
		err = s.out.WriteMessage(message)
		switch {
		case err == nil:
		case s.flags.overflow == "drop-newest" &&
			(errors.Is(err, udsipc.ErrBufferFull) || errors.Is(err, spool.ErrSpoolFull)): // It is counted.
		default:
			return err
		}
	}
	return udsipc.ErrStopped
}

// watch shows progress, and ends everything when --timeout has passed without any, until over is closed.
func (s *sending) watch(interrupted context.Context, over <-chan struct{}, giveUp func()) {
	interval := s.console.interval()
	if s.flags.timeout > 0 {
		interval = min(interval, max(s.flags.timeout/4, time.Millisecond))
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	shown, rates := s.showsProgress(), meter{}
	last, since, drawn := uint64(0), time.Now(), time.Time{}
	first, remind := interrupted.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case now := <-ticker.C:
			c := s.out.counts()
			idle := s.waiting(c) == 0 && !s.finishing.Load() // At the end, the reader may be what waits.
			if idle || c.arrived != last {
				last, since = c.arrived, now
			}
			s.tellFull(c, now.Sub(since))
			if s.flags.timeout > 0 && now.Sub(since) >= s.flags.timeout {
				s.gaveUp.Store(true)
				s.connected.Store(c.connected)
				giveUp()
				return
			}
			if shown && now.Sub(drawn) >= s.console.interval()-time.Millisecond {
				drawn = now
				s.console.progress(s.status(c, &rates, now))
			}
		case <-first:
			first, remind = nil, time.After(redrawInterval)
		case <-remind:
			if n := s.waiting(s.out.counts()); n > 0 && !s.flags.quiet {
				s.console.logf("waiting for %s to arrive; another interrupt gives up", plural(n, "message"))
			}
		case <-over:
			return
		}
	}
}

// showsProgress reports whether there is progress to show: not beside what somebody types.
func (s *sending) showsProgress() bool {
	typed := s.env.isTerminal(s.env.stdin) && (len(s.env.args) == 1 || slices.Contains(s.env.args[1:], "-"))
	return s.flags.progress || s.console.redraw && !s.flags.quiet && !typed
}

// waiting returns how many messages are queued, with the one that the queue, or the spool, has no room for.
func (s *sending) waiting(c counts) uint64 {
	read := s.messages.Load()
	return c.queued + read - min(read, c.accepted+c.refused)
}

// tellFull tells once that nothing takes the messages of a spool that is full. Only it waits without a word.
func (s *sending) tellFull(c counts, waited time.Duration) {
	if s.flags.spool == "" || s.toldFull || s.waiting(c) == c.queued || waited < fullNotice {
		return
	}
	s.toldFull = true
	s.console.logf("the spool has no room (--spool-size, or the disk is nearly full); waiting until a reader takes " +
		"messages")
}

// fullNotice is how long a spool has no room before that is told.
const fullNotice = time.Second

// status returns the line of progress.
func (s *sending) status(c counts, rates *meter, now time.Time) string {
	sent := s.bytes.Load() - min(s.bytes.Load(), c.queuedBytes)
	messageRate, byteRate := rates.add(now, c.arrived, sent)
	state := ""
	if !c.connected && c.queued > 0 {
		state = ", not connected"
	}
	return fmt.Sprintf("%s messages, %s, %s messages/s, %s/s, queue %s (%s)%s", formatCount(float64(c.arrived)),
		formatBytes(float64(sent)), formatCount(messageRate), formatBytes(byteRate), formatCount(float64(c.queued)),
		formatBytes(float64(c.queuedBytes)), state)
}
