// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// A source sends the messages of one round.
type source struct {
	job
	contender.Sender
	unordered bool
	messages  uint64 // Since the message begin.
	processor int64  // The processor time at the message begin.
}

func runSender(j job, c contender.Contender, stopped <-chan struct{}) error {
	sender, err := c.Dial(contender.End{Dir: j.Dir, Size: j.Size, Fail: exit})
	if err != nil {
		return err
	}
	s := &source{job: j, Sender: sender, unordered: c.Unordered}
	kept := 0.0
	if j.Rate == 0 {
		err = s.flood()
	} else {
		kept, err = s.pace(c.Keeps)
	}
	if err != nil {
		return err
	}
	<-stopped // The receiver has the last message.
	r := report{Messages: s.messages, ProcessorTime: processorTime() - s.processor, RateKept: kept}
	if r.PeakMemory, err = peakMemory(); err != nil {
		return err
	}
	return tell(r)
}

// flood sends as many messages as it can.
func (s *source) flood() error {
	if err := s.repeat(s.Warm); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.repeat(s.Measure); err != nil {
		return err
	}
	return s.end()
}

// repeat sends equal messages for some time.
func (s *source) repeat(during time.Duration) error {
	data := newMessage(s.Size, plain)
	batch := max(1, 64<<10/s.Size)
	send := func() error {
		for range batch {
			if err := s.Send(data); err != nil {
				return err
			}
		}
		return nil
	}
	if r, ok := s.Sender.(contender.Repeater); ok {
		send = func() error { return r.Repeat(data, batch) }
	}
	for until := now() + int64(during); now() < until; s.messages += uint64(batch) {
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

// shortestWait bounds the processor time that waiting takes. Messages that are due meanwhile are
// sent together.
const shortestWait = 20 * time.Microsecond

// pace sends messages on a schedule that does not depend on how fast they are received: one that is
// late makes the next ones late, and all of that is latency. It returns the share of the rate that
// it kept.
//
// The time of a message is that of the schedule, or that in which pace itself has woken up, if that
// is later.
func (s *source) pace(keeps bool) (kept float64, err error) {
	sleeper, err := newSleeper()
	if err != nil {
		return 0, err
	}
	messages := s.ring(keeps)
	interval := 1e9 / s.Rate
	warm := int(s.Warm.Seconds() * s.Rate)
	total := warm + max(1, int(s.Measure.Seconds()*s.Rate))
	start := now()
	giveUp := start + 3*int64(s.Warm+s.Measure)
	due := func(i int) int64 { return start + int64(float64(i)*interval) }
	at, woke := start, start
	i := 0
	for i < total && at < giveUp {
		if due(i) > at {
			if err := sleeper.until(max(due(i), at+int64(shortestWait))); err != nil {
				return 0, err
			}
			woke = now()
			at = woke
		}
		for ; i < total && due(i) <= at; i++ {
			if i == warm {
				if err := s.begin(); err != nil {
					return 0, err
				}
				woke = now() // Flushing was no message's fault.
			}
			data := messages[i%len(messages)]
			setNumber(data, uint64(max(due(i), woke)))
			if err := s.Send(data); err != nil {
				return 0, err
			}
			s.messages++
		}
		at = now()
	}
	kept = min(1, float64(i)*interval/float64(at-start))
	return kept, s.end()
}

// ring returns the messages that pace sends in turn.
func (s *source) ring(keeps bool) [][]byte {
	ring := make([][]byte, 1)
	if keeps {
		ring = make([][]byte, contender.Kept)
	}
	for i := range ring {
		ring[i] = newMessage(s.Size, timed)
	}
	return ring
}

// begin tells the receiver that the warming up is over. The processor time must not include the
// sending of earlier messages from a queue.
func (s *source) begin() error {
	if err := s.Flush(); err != nil {
		return err
	}
	s.messages = 0
	s.processor = processorTime()
	return s.mark(begin, 0)
}

// end tells the receiver how many messages there were. Flushing before could cost time that counts.
func (s *source) end() error {
	if s.unordered {
		if err := s.Flush(); err != nil {
			return err
		}
	}
	return s.mark(end, s.messages)
}

func (s *source) mark(kind byte, number uint64) error {
	data := newMessage(s.Size, kind)
	setNumber(data, number)
	if err := s.Send(data); err != nil {
		return err
	}
	return s.Flush()
}
