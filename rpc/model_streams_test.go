// SPDX-License-Identifier: Apache-2.0

package rpc_test

// The model of streams: clients open streams and make calls at random, while their queue is full,
// the server stops, connections break, or other clients ask for much and read nothing. See
// streamWorld for what has to be true.
//
//	go test ./rpc -run TestStreamModel -model.streams 1000 -timeout 0

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	ours "github.com/udsipc/udsipc/rpc"
)

// A plan is what one stream does. It travels in the stream's first message.
type plan struct {
	id         uint64
	up, down   int // Messages in each direction.
	size       int // Of each.
	readsFirst bool
	readsLast  bool
	fails      bool // The handler returns an error.
	waits      bool // The handler waits for the end of its context.
	tooLarge   bool // The handler sends more than the client takes.

	// What the server need not know.
	upTooLarge bool // The client sends more than the server takes.
	canceled   bool // At some time.
	dawdles    bool // The client does not receive, or does not end its side, before something happens.
}

func (p plan) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.id)
	b = binary.BigEndian.AppendUint32(b, uint32(p.down))
	b = binary.BigEndian.AppendUint32(b, uint32(p.size))
	bits := byte(0)
	for i, set := range []bool{p.readsFirst, p.readsLast, p.fails, p.waits, p.tooLarge} {
		if set {
			bits |= 1 << i
		}
	}
	return append(b, bits)
}

func parsePlan(b []byte) (p plan) {
	bits := b[16]
	return plan{
		id: binary.BigEndian.Uint64(b), down: int(binary.BigEndian.Uint32(b[8:])), size: int(binary.BigEndian.Uint32(b[12:])),
		readsFirst: bits&1 > 0, readsLast: bits&2 > 0, fails: bits&4 > 0, waits: bits&8 > 0, tooLarge: bits&16 > 0,
	}
}

// reads says whether the handler receives everything.
func (p plan) reads() bool { return p.readsFirst || p.readsLast }

// newPlan returns a plan by chance. A window is 1 MiB, and some plans send more than two.
func (w *streamWorld) newPlan(random *rand.Rand, id uint64) plan {
	const most = 5 << 19
	p := plan{id: id, size: []int{16, 100, 5000, 60_000, w.smallest() - 64}[random.IntN(5)]}
	p.up, p.down = min(random.IntN(60), most/p.size), min(random.IntN(60), most/p.size)
	what := random.IntN(8)
	p.readsFirst, p.readsLast = what%2 == 1, what == 2
	if !p.reads() {
		p.up = min(p.up, 3) // The window has room for that.
	}
	switch random.IntN(8) {
	case 0:
		p.fails = true
	case 1:
		p.waits = true
	case 2:
		p.canceled = true
		p.waits = random.IntN(2) == 0
	case 3:
		p.tooLarge, p.upTooLarge = w.clientLimit < w.serverLimit, w.clientLimit > w.serverLimit
		p.waits = random.IntN(2) == 0
	}
	p.dawdles = random.IntN(3) == 0
	return p
}

// numbered is a message of a stream.
func numbered(id uint64, n, size int) []byte {
	b := make([]byte, max(size, 12))
	binary.BigEndian.PutUint64(b, id)
	binary.BigEndian.PutUint32(b[8:], uint32(n))
	return b
}

// receiveNumbered receives until an error, and checks the order.
func receiveNumbered(s *ours.Stream, id uint64, next *int, before func()) error {
	for {
		if before != nil {
			before()
		}
		data, err := s.Receive()
		if err != nil {
			return err
		}
		if len(data) < 12 || binary.BigEndian.Uint64(data) != id || int(binary.BigEndian.Uint32(data[8:])) != *next {
			return fmt.Errorf("stream %d, message %d: % x of %d bytes", id, *next, data[:min(12, len(data))], len(data))
		}
		*next++
	}
}

// handle is the handler of every stream.
func (w *streamWorld) handle(ctx context.Context, s *ours.Stream) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	p := parsePlan(first)
	received := 0
	receive := func() error {
		err := receiveNumbered(s, p.id, &received, nil)
		w.received.Store(p.id, received)
		if err == io.EOF || ours.CodeOf(err) == ours.CodeConnectionLost {
			return nil // The server stops: what there is to send goes out all the same.
		}
		return err
	}
	if p.readsFirst {
		if err := receive(); err != nil {
			return err
		}
	}
	for n := range p.down {
		if err := s.Send(numbered(p.id, n, p.size)); err != nil {
			return err
		}
	}
	if p.tooLarge {
		if err := s.Send(make([]byte, w.clientLimit)); err != nil {
			return err
		}
	}
	if p.readsLast {
		if err := receive(); err != nil {
			return err
		}
	}
	if p.waits {
		<-ctx.Done()
	}
	if p.fails {
		return &ours.Error{Code: ours.CodeFirstUser, Message: fmt.Sprint(p.id)}
	}
	return nil
}

// converse runs one stream at its client, and checks how it ends.
func (w *streamWorld) converse(t *testing.T, c *ours.Client, random *rand.Rand, p plan) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if p.canceled {
		defer time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, cancel).Stop()
	}
	s, err := c.OpenStream(ctx, "plan", nil)
	if err != nil {
		w.check(t, "OpenStream", p, err)
		return
	}
	defer s.Close()
	var sending sync.WaitGroup
	sent, whole := -1, false // Without the plan; whether all of it went out.
	sending.Go(func() {
		if sent, whole = w.sendAll(s, p); p.upTooLarge && !whole {
			s.Close() // Nobody has told the handler.
		}
	})
	if p.dawdles {
		w.awaitEvent()
	}
	received := 0
	err = receiveNumbered(s.Stream, p.id, &received, func() {
		if p.waits && received == p.down && !p.tooLarge && !p.upTooLarge {
			sending.Wait()
			s.Close()
		}
		if random.IntN(16) == 0 {
			time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond)
		}
	})
	s.Close() // What is still being sent comes to an end.
	sending.Wait()
	w.check(t, "Receive", p, err)
	handled, _ := w.received.Load(p.id)
	switch inOrder := err == io.EOF || ours.CodeOf(err) == ours.CodeFirstUser; {
	case p.waits || !inOrder:
	case received != p.down:
		t.Errorf("stream %+v ended with %v after %d messages", p, err, received)
	case p.reads() && sent >= 0 && w.certain() && handled != sent && (whole || w.stops.Load() > 0):
		t.Errorf("stream %+v ended with %v, and its handler had received %v of %d messages", p, err, handled, sent)
	}
}

// sendAll is the sending side of a client. It returns how many messages went out, -1 if the plan
// did not, and whether the end did as well.
func (w *streamWorld) sendAll(s *ours.ClientStream, p plan) (sent int, whole bool) {
	if s.Send(p.append(nil)) != nil {
		return -1, false
	}
	for n := range p.up {
		if s.Send(numbered(p.id, n, p.size)) != nil {
			return n, false
		}
	}
	if p.upTooLarge && s.Send(make([]byte, w.serverLimit)) != nil {
		return p.up, false
	}
	if p.dawdles {
		w.awaitEvent()
	}
	return p.up, s.CloseSend() == nil
}

// call makes a call that is answered, or one that is given up.
func (w *streamWorld) call(t *testing.T, c *ours.Client, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := plan{canceled: random.IntN(2) == 0}
	if p.canceled {
		defer time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, cancel).Stop()
		_, err := c.Call(ctx, "wait", nil)
		w.check(t, "a call that waits", p, err)
		return
	}
	request := bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(w.smallest()-100))
	response, err := c.Call(ctx, "echo", request)
	if w.check(t, "a call", p, err); err == nil && !bytes.Equal(request, response) {
		t.Errorf("a call got the response of another")
	}
}

// check says whether a stream or a call may end like this.
func (w *streamWorld) check(t *testing.T, what string, p plan, err error) {
	may := false
	switch code := ours.CodeOf(err); {
	case err == io.EOF || err == nil:
		unread := !p.reads() && !p.waits || w.stops.Load() > 0 || w.forced // The handler may not have met what is too large.
		may = !p.fails && !p.tooLarge && (!p.upTooLarge || unread)
	case code == ours.CodeFirstUser:
		may = p.fails
	case code == ours.CodeCanceled:
		may = p.canceled || p.waits || p.upTooLarge || w.forced // Which ends the handlers' contexts.
	case code == ours.CodeTooLarge:
		may = p.tooLarge || p.upTooLarge
	case code == ours.CodeResourceExhausted:
		may = w.full || w.silent > 0
	case code == ours.CodeConnectionLost:
		may = !w.certain() || w.stops.Load() > 0 && what == "Receive"
	}
	if !may {
		t.Errorf("%s, %+v: %v", what, p, err)
	}
}
