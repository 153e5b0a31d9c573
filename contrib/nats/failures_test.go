// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// A cluster that accepts nothing, or not everything: what is reported, that nothing is lost, and that it
// goes on.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// interrupted has messages sent while something is wrong, waits for its report, mends it, and checks the
// stream. The report comes once.
func (w *world) interrupted(p *natsbridge.Publisher, wr *udsipc.Writer, report string, mend func()) {
	w.Helper()
	var sent sync.WaitGroup
	sent.Go(func() { w.send(wr, 0, 2000) })
	text := w.await(report)
	w.Log(text)
	before := p.Metrics()
	for p.Metrics().Failed < before.Failed+3 && w.ctx.Err() == nil { // It goes on trying.
		time.Sleep(10 * time.Millisecond)
	}
	if m := wr.Metrics(); m.Queued == 0 {
		w.Errorf("the writer has nothing left: %+v", m)
	}
	mend()
	sent.Wait()
	w.await("<nil>")
	w.wantOnce(1, 2000)
	same := slices.DeleteFunc(slices.Clone(w.states.all), func(s string) bool { return !strings.Contains(s, report) })
	if len(same) != 1 {
		w.Errorf("reports: %q: want one with %q", w.states.all, report)
	}
}

func TestPublisher_StreamIsMissing_Waits(t *testing.T) {
	w := newWorld(t, 1, jetstream.StreamConfig{}, nil)
	p := w.publisher(w.js)
	w.reads(p)
	const report = "stream EVENTS: nats: API error: code=404 err_code=10059 description=stream not found"
	w.interrupted(p, w.writes(), report, func() {
		var err error
		if w.stream, err = w.CreateStream(w.ctx, w.js, streamConfig()); err != nil {
			t.Error(err)
		}
	})
}

func TestPublisher_StreamIsFull_Waits(t *testing.T) {
	cfg := streamConfig()
	cfg.Discard, cfg.MaxBytes = jetstream.DiscardNew, 20_000
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	w.reads(p)
	w.interrupted(p, w.writes(), "maximum bytes exceeded", func() {
		cfg.MaxBytes = -1
		if _, err := w.js.UpdateStream(w.ctx, cfg); err != nil {
			t.Error(err)
		}
	})
}

func TestPublisher_NoAtomicBatches_Waits(t *testing.T) {
	cfg := streamConfig()
	cfg.AllowAtomicPublish = false
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	w.reads(p)
	w.interrupted(p, w.writes(), "does not allow atomic batches (AllowAtomicPublish): stream EVENTS", func() {
		if _, err := w.js.UpdateStream(w.ctx, streamConfig()); err != nil {
			t.Error(err)
		}
	})
}

func TestPublisher_OtherSubjects_Waits(t *testing.T) {
	cfg := streamConfig()
	cfg.Subjects = []string{"others.>"}
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	w.reads(p)
	w.interrupted(p, w.writes(), `stream EVENTS has ["others.>"]: want events.*`, func() {
		if _, err := w.js.UpdateStream(w.ctx, streamConfig()); err != nil {
			t.Error(err)
		}
	})
}

// TestPublisher_ServerIsAway_FillsQueue: the policy of the full queue decides.
func TestPublisher_ServerIsAway_FillsQueue(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	p := w.publisher(w.js)
	w.reads(p)
	wr := w.writes(udsipc.WithMaxBufferedWrites(100), udsipc.WithOverflow(udsipc.OverflowRefuse))
	w.send(wr, 0, 10)
	w.StopServer(0)
	n := 10
	for ; n < 1000; n++ {
		err := wr.WriteMessage(fmt.Append(nil, n))
		if errors.Is(err, udsipc.ErrBufferFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != 110 {
		t.Errorf("the queue is full after %d messages: want 110", n)
	}
	w.await(nats.ErrDisconnected.Error())
	if err := w.StartServer(0); err != nil {
		t.Fatal(err)
	}
	if err := wr.Flush(w.ctx); err != nil {
		t.Error(err)
	}
	w.wantOnce(1, n)
}

// newRestrictedWorld returns a stream, a connection that may not publish a subject, and what allows it to.
func newRestrictedWorld(t *testing.T, deny string) (w *world, js jetstream.JetStream, allow func()) {
	t.Helper()
	users := func(deny ...string) []*server.User {
		return []*server.User{{Username: "a", Password: "a"}, {Username: "b", Password: "b", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: deny},
		}}}
	}
	var options *server.Options
	w = newWorld(t, 1, jetstream.StreamConfig{}, func(_ int, o *server.Options) {
		o.Users, options = users(deny), o
	})
	w.js = w.connect(0, nats.UserInfo("a", "a"))
	var err error
	if w.stream, err = w.CreateStream(w.ctx, w.js, streamConfig()); err != nil {
		t.Fatal(err)
	}
	js = w.connect(0, nats.UserInfo("b", "b"), nats.ErrorHandler(ignore))
	return w, js, func() { w.restarts(func() { options.Users = users() }) }
}

// TestPublisher_LostPermission_IsReported: the server tells the connection, not the one that waits.
func TestPublisher_LostPermission_IsReported(t *testing.T) {
	w, js, allow := newRestrictedWorld(t, "events.>")
	p := w.publisher(js, natsbridge.WithAckTimeout(100*time.Millisecond))
	w.reads(p)
	w.interrupted(p, w.writes(), "permissions violation", allow)
}

// TestPublisher_RefusedMessages_AreDeadLetters: the others are stored in their order.
func TestPublisher_RefusedMessages_AreDeadLetters(t *testing.T) {
	t.Run("server", func(t *testing.T) { refusedMessages(t, 4000, -1) })
	t.Run("stream", func(t *testing.T) { refusedMessages(t, 1<<20, 4000) })
}

func refusedMessages(t *testing.T, payload, message int32) {
	cfg := streamConfig()
	cfg.MaxMsgSize = message
	w := newWorld(t, 1, cfg, func(_ int, o *server.Options) { o.MaxPayload = payload })
	p := w.publisher(w.js, natsbridge.WithSubject(func(d *udsipc.Delivery) string {
		return strings.TrimSuffix(string(d.Data[:1]), "*")
	}))
	var mu sync.Mutex
	var dead []string
	w.reads(p, udsipc.WithMaxRedeliveries(0), udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
		mu.Lock()
		defer mu.Unlock()
		dead = append(dead, fmt.Sprintf("%d %.8s %v", d.Seq, d.Data, err))
	}))
	wr, other := w.writes(), w.writes()
	for n := range 200 {
		text := fmt.Append(nil, n)
		switch n {
		case 50:
			text = []byte(strings.Repeat("x", 4000))
		case 150:
			text = []byte("*")
		}
		if err := wr.WriteMessage(text); err != nil {
			t.Fatal(err)
		}
		if err := other.WriteMessage(fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []*udsipc.Writer{wr, other} {
		if err := one.Flush(w.ctx); err != nil {
			t.Error(err)
		}
	}
	if len(dead) != 2 || !strings.Contains(dead[0], "51 xxxxxxxx natsbridge: message too large: message 51: 4") ||
		!strings.Contains(dead[1], "151 * natsbridge: invalid subject: WithSubject returns \"\" for message 151") {
		t.Errorf("%q", dead)
	}
	texts := make(map[string][]string)
	for _, m := range w.all() {
		writer := strings.Split(m.subject, ".")[1]
		texts[writer] = append(texts[writer], m.data)
	}
	sizes := 0
	for _, got := range texts {
		sizes += len(got)
		if !slices.IsSortedFunc(got, func(a, b string) int { return number(a) - number(b) }) {
			t.Errorf("%q", got)
		}
	}
	if sizes != 398 || len(texts) != 2 {
		t.Errorf("%d messages of %d writers", sizes, len(texts))
	}
}

func ignore(*nats.Conn, *nats.Subscription, error) {}

func number(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}
