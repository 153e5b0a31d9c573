// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what a Forwarder answers to JetStream.

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/failures"
)

// HandleFailure is a udsipc.DeliveryHandler, for a Reader of the reports that a failures.Reporter sends. A message
// that is reported before the Reader acknowledges it is not acknowledged to JetStream, but given back or ended.
func (f *Forwarder) HandleFailure(_ context.Context, d *udsipc.Delivery) error {
	report, err := failures.Parse(d.Data)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if report.Writer != f.id || report.Seq < f.first || report.Seq-f.first >= uint64(f.written) {
		return nil // It is answered already, or of an earlier Forwarder: JetStream sends it again.
	}
	f.pending[report.Seq-f.first].cause = fmt.Errorf("%w: %s", errHandler, report.Reason)
	return nil
}

// fail answers for a message that the Reader does not take, or that its handler has failed for.
func (f *Forwarder) fail(m jetstream.Msg, cause error) {
	meta, err := m.Metadata()
	if err == nil && meta.NumDelivered < f.maxDeliveries.Load() {
		f.giveBack(m, min(f.cfg.maxBackoff, time.Second<<min(meta.NumDelivered-1, 16)))
		return
	}
	if f.cfg.deadLetters != "" {
		if err := f.keep(f.deadLetter(m, meta, cause)); err != nil {
			f.giveBack(m, f.cfg.maxBackoff) // It is not ended before it is kept elsewhere.
			f.tellDead(fmt.Errorf("dead letter to %s: %w", f.cfg.deadLetters, err))
			return
		}
		f.tellDead(nil)
	}
	_ = m.TermWithReason(cause.Error())
	f.counts.deadLetters.Add(1)
}

// deadLetter returns the message for the subject of dead letters. Headers that JetStream would obey are left out:
// a message of a Publisher has those of its batch.
func (f *Forwarder) deadLetter(m jetstream.Msg, meta *jetstream.MsgMetadata, cause error) *nats.Msg {
	dead := nats.NewMsg(f.cfg.deadLetters)
	for name, values := range m.Headers() {
		if !strings.HasPrefix(strings.ToLower(name), "nats-") {
			dead.Header[name] = values
		}
	}
	dead.Header.Set("Udsipc-Subject", m.Subject())
	dead.Header.Set("Udsipc-Cause", cause.Error())
	dead.Header.Set("Udsipc-Stream", f.stream)
	dead.Header.Set("Udsipc-Consumer", f.consumer)
	if meta != nil {
		dead.Header.Set("Udsipc-Sequence", strconv.FormatUint(meta.Sequence.Stream, 10))
		dead.Header.Set("Udsipc-Deliveries", strconv.FormatUint(meta.NumDelivered, 10))
		dead.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s.%s.%d", f.stream, f.consumer, meta.Sequence.Stream))
	}
	dead.Data = m.Data()
	return dead
}

// keep publishes a dead letter.
func (f *Forwarder) keep(dead *nats.Msg) error {
	if !f.js.Conn().IsConnected() { // Each message would wait for the timeout.
		return nats.ErrDisconnected
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	_, err := f.js.PublishMsg(ctx, dead)
	return err
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
