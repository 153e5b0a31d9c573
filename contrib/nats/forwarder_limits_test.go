// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// A Forwarder whose queue, consumer or Writer is not as it is by default.

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// consumerOf is consumer with limits.
func (w *world) consumerOf(change func(c *jetstream.ConsumerConfig)) (c jetstream.Consumer) {
	w.Helper()
	cfg := jetstream.ConsumerConfig{Durable: "local", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "events.>"}
	change(&cfg)
	w.asks(func(ctx context.Context) (err error) {
		c, err = w.stream.CreateOrUpdateConsumer(ctx, cfg)
		return err
	})
	return c
}

// wantNoRedelivery waits until JetStream would have sent unanswered messages again, and checks that it has not.
func (w *world) wantNoRedelivery(c jetstream.Consumer, wait time.Duration) {
	w.Helper()
	timer := time.NewTimer(3 * wait)
	defer timer.Stop()
	<-timer.C
	if n := w.infoOf(c).NumRedelivered; n != 0 {
		w.Errorf("%d messages are sent again", n)
	}
}

// TestForwarder_FullQueue_KeepsMessagesAlive: also those for which the queue of the Writer has no room.
func TestForwarder_FullQueue_KeepsMessagesAlive(t *testing.T) {
	const wait = 500 * time.Millisecond
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumerOf(func(c *jetstream.ConsumerConfig) { c.AckWait = wait })
	w.publishes(0, 300)
	f, _ := w.forwards(natsbridge.WithKeepAlive(50*time.Millisecond),
		natsbridge.WithWriterOptions(udsipc.WithMaxBufferedWrites(10), udsipc.WithMaxBackoff(50*time.Millisecond)))
	w.wantNoRedelivery(c, wait)
	r := w.receives()
	wantNumbers(t, r.await(300), 300)
	w.wantAcked(c)
	if m := f.Metrics(); m.Received != 300 || m.Handled != 300 || m.Pending != 0 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_FullQueueStop_GivesBack what waits for the queue, too.
func TestForwarder_FullQueueStop_GivesBack(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	w.consumer()
	w.publishes(0, 300)
	f, end := w.forwards(natsbridge.WithDrainTimeout(time.Millisecond),
		natsbridge.WithWriterOptions(udsipc.WithMaxBufferedWrites(10)))
	for f.Metrics().Received < 300 && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	end()
	if m := f.Metrics(); m.Returned != 300 || m.Handled != 0 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_ShortAckWait_KeepsMessagesAlive: the consumer knows better than the default.
func TestForwarder_ShortAckWait_KeepsMessagesAlive(t *testing.T) {
	const wait = 500 * time.Millisecond
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumerOf(func(c *jetstream.ConsumerConfig) { c.AckWait = wait })
	w.publishes(0, 10)
	w.forwards()
	w.wantNoRedelivery(c, wait)
}

// TestForwarder_WriterMaxAge_IsOff: JetStream keeps the messages for as long as the Reader is away.
func TestForwarder_WriterMaxAge_IsOff(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumer()
	w.publishes(0, 10)
	f, _ := w.forwards(natsbridge.WithMaxDeliveries(1), natsbridge.WithWriterOptions(
		udsipc.WithMaxAge(50*time.Millisecond), udsipc.WithMaxBackoff(50*time.Millisecond)))
	for f.Metrics().Pending < 10 && f.Metrics().DeadLetters == 0 && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	w.wantNoRedelivery(c, 100*time.Millisecond)
	wantNumbers(t, w.receives().await(10), 10)
	w.wantAcked(c)
	if m := f.Metrics(); m.Handled != 10 || m.DeadLetters != 0 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_MaxDeliverOfConsumer_MakesDeadLetter: after the last delivery that there is.
func TestForwarder_MaxDeliverOfConsumer_MakesDeadLetter(t *testing.T) {
	cfg := streamConfig()
	cfg.Subjects = append(cfg.Subjects, "dead.>")
	w := newWorld(t, 1, cfg, nil)
	c := w.consumerOf(func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 1 })
	w.receives(udsipc.WithMaxMessageSize(1000))
	if _, err := w.js.Publish(w.ctx, "events.large", []byte(strings.Repeat("x", 2000))); err != nil {
		t.Fatal(err)
	}
	f, _ := w.forwards(natsbridge.WithDeadLetters("dead.events"))
	for m := f.Metrics(); m.DeadLetters+m.Returned == 0 && w.ctx.Err() == nil; m = f.Metrics() {
		time.Sleep(time.Millisecond)
	}
	if _, err := w.stream.GetLastMsgForSubject(w.ctx, "dead.>"); err != nil {
		t.Error(err)
	}
	w.wantAcked(c)
}

// TestForwarder_EncodingPanics_CostsItsMessage, not the process.
func TestForwarder_EncodingPanics_CostsItsMessage(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumer()
	w.publishes(0, 3)
	r := w.receives()
	f, err := natsbridge.NewForwarder(w.js, "EVENTS", "local", filepath.Join(w.dir, "local"),
		natsbridge.WithMaxDeliveries(1), natsbridge.WithEncoding(func(m jetstream.Msg) []byte {
			if string(m.Data()) == "1" {
				panic("no encoding")
			}
			return m.Data()
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() { // Ends with ctx.
		defer close(ended)
		_ = f.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	if got := r.await(2); got[0] != "0" || got[1] != "2" {
		t.Errorf("%q", got)
	}
	w.wantAcked(c)
	if m := f.Metrics(); m.Handled != 2 || m.DeadLetters != 1 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_ClusterIsAway_RunEnds before nats.go finds that there are no heartbeats.
func TestForwarder_ClusterIsAway_RunEnds(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	w.consumer()
	var once sync.Once
	away := make(chan struct{})
	js := w.connect(0, nats.ReconnectErrHandler(func(*nats.Conn, error) { once.Do(func() { close(away) }) }))
	f, err := natsbridge.NewForwarder(js, "EVENTS", "local", w.address(), natsbridge.WithDrainTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() { // Ends with ctx.
		_ = f.Run(ctx)
		close(ended)
	}()
	w.publishes(0, 1)
	for f.Metrics().Received == 0 && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	w.StopServer(0)
	<-away
	noHeartbeat := time.After(9 * time.Second)
	stop()
	select {
	case <-ended:
	case <-noHeartbeat:
		t.Error("Run has not ended")
		<-ended
	}
}
