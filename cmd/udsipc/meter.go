// SPDX-License-Identifier: Apache-2.0

package main

// This file turns counters into the rates that progress shows.

import "time"

// A meter turns counters into rates, over the last few steps.
type meter struct {
	steps []meterStep
}

type meterStep struct {
	when            time.Time
	messages, bytes uint64
}

const meterSteps = 10

// add adds a step, and returns the rates in 1/s since the oldest one that is kept.
func (m *meter) add(now time.Time, messages, bytes uint64) (messageRate, byteRate float64) {
	m.steps = append(m.steps, meterStep{now, messages, bytes})
	if len(m.steps) > meterSteps {
		m.steps = m.steps[1:]
	}
	first := m.steps[0]
	seconds := now.Sub(first.when).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	return float64(messages-min(messages, first.messages)) / seconds, float64(bytes-min(bytes, first.bytes)) / seconds
}
