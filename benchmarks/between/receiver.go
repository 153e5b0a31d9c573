// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// A meter measures at the receiving end, from the message begin to the message end.
type meter struct {
	size      int
	messages  uint64
	began     int64 // On the clock of now.
	processor int64 // The processor time when it began.
	latency   histogram
	done      chan<- report
}

func runReceiver(j job, c contender.Contender) error {
	done := make(chan report, 1)
	m := &meter{size: j.Size, done: done}
	if _, err := c.Listen(contender.End{Dir: j.Dir, Size: j.Size, Fail: exit}, m.receive); err != nil {
		return err
	}
	if err := tell(report{Ready: true}); err != nil {
		return err
	}
	r := <-done
	var err error
	if r.PeakMemory, err = peakMemory(); err != nil {
		return err
	}
	return tell(r)
}

func (m *meter) receive(data []byte) {
	if len(data) != m.size {
		exit(fmt.Errorf("a message of %d bytes, want %d", len(data), m.size))
	}
	switch data[0] {
	case timed:
		m.latency.add(now() - int64(number(data)))
		fallthrough
	case plain:
		m.messages++
	case begin:
		m.messages = 0
		m.latency = histogram{}
		m.processor = processorTime()
		m.began = now()
	case end:
		m.end(number(data))
	}
}

func (m *meter) end(sent uint64) {
	took := now() - m.began
	if m.messages != sent {
		exit(fmt.Errorf("%d messages arrived, want %d", m.messages, sent))
	}
	m.done <- report{
		Messages:      m.messages,
		Nanoseconds:   took,
		ProcessorTime: processorTime() - m.processor,
		P50:           m.latency.quantile(0.5),
		P99:           m.latency.quantile(0.99),
		P999:          m.latency.quantile(0.999),
	}
}
