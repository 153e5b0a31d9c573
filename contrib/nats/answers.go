// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what a Forwarder answers to JetStream.

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fail answers for a message that the Reader does not take.
func (f *Forwarder) fail(m jetstream.Msg, cause error) {
	meta, err := m.Metadata()
	if err == nil && meta.NumDelivered < f.maxDeliveries.Load() {
		f.giveBack(m, min(f.cfg.maxBackoff, time.Second<<min(meta.NumDelivered-1, 16)))
		return
	}
	if f.cfg.deadLetters != "" {
		dead := nats.NewMsg(f.cfg.deadLetters)
		for name, values := range m.Headers() {
			dead.Header[name] = values
		}
		dead.Header.Set("Udsipc-Subject", m.Subject())
		dead.Header.Set("Udsipc-Cause", cause.Error())
		if meta != nil {
			dead.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s.%s.%d", f.stream, f.consumer, meta.Sequence.Stream))
		}
		dead.Data = m.Data()
		ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
		defer cancel()
		if _, err := f.js.PublishMsg(ctx, dead); err != nil {
			f.giveBack(m, f.cfg.maxBackoff) // It is not ended before it is kept elsewhere.
			f.tellDead(fmt.Errorf("dead letter to %s: %w", f.cfg.deadLetters, err))
			return
		}
		f.tellDead(nil)
	}
	_ = m.TermWithReason(cause.Error())
	f.counts.deadLetters.Add(1)
}

// giveBack has JetStream send a message again.
func (f *Forwarder) giveBack(m jetstream.Msg, delay time.Duration) {
	if delay > 0 {
		_ = m.NakWithDelay(delay)
	} else {
		_ = m.Nak()
	}
	f.counts.returned.Add(1)
}

// keepAlive tells JetStream that the messages that wait for the Reader are not forgotten, until stop is closed.
func (f *Forwarder) keepAlive(stop <-chan struct{}) {
	tick := time.NewTicker(time.Duration(f.interval.Load()))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-f.retime:
			tick.Reset(time.Duration(f.interval.Load()))
		case <-stop:
			return
		}
		f.mu.Lock()
		waiting := append([]forwarded(nil), f.pending...)
		f.mu.Unlock()
		for _, one := range waiting {
			if !one.failed {
				_ = one.msg.InProgress()
			}
		}
	}
}
