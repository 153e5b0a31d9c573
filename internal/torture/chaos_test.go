// SPDX-License-Identifier: Apache-2.0

package torture_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// chaos is everything at once: Writers with each policy, used from many goroutines, and a Reader that is stopped
// by others and by its own handlers, has little memory, and closes what is idle for a moment.
type chaos struct {
	*testing.T
	on      *ipctest.Route
	policy  udsipc.OverflowPolicy
	reader  atomic.Pointer[udsipc.Reader]
	calm    atomic.Bool
	writers []*udsipc.Writer
}

// TestChaos looks for panics, races, what is never woken, and counters that do not add up. The model looks for
// lost messages.
func TestChaos(t *testing.T) {
	t.Parallel()
	const lasts = 150 * time.Millisecond
	policy := udsipc.OverflowPolicy(0)
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		c := &chaos{T: t, on: on, policy: policy}
		policy = (policy + 1) % 3
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		c.startReader()
		var wg sync.WaitGroup
		for range 3 {
			w := c.startWriter()
			for range 2 {
				wg.Go(func() {
					for ctx.Err() == nil {
						c.use(ctx, w)
					}
				})
			}
		}
		for ctx.Err() == nil {
			wait, stop := context.WithTimeout(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
			<-wait.Done()
			stop()
			c.stopReader(time.Duration(rand.IntN(20)) * time.Millisecond)
			c.startReader()
		}
		wg.Wait()
		c.settle()
	})
}

// startReader starts the next Reader. Handlers fail now and then, ask for metrics, and stop it.
func (c *chaos) startReader() {
	c.Helper()
	r := c.on.StartReader(c, func(data []byte) error {
		r := c.reader.Load()
		switch {
		case rand.IntN(200) == 0:
			r.Metrics()
		case rand.IntN(300) == 0 && !c.calm.Load():
			c.stopReader(time.Millisecond)
		case rand.IntN(50) == 0 && !c.calm.Load():
			return errors.New("now and then")
		}
		return nil
	}, udsipc.WithInactivityTimeout(5*time.Millisecond), udsipc.WithMaxWriterStates(2), udsipc.WithMaxReadMemory(1<<20))
	c.reader.Store(r)
}

// stopReader stops the Reader within some time, or leaves its handlers behind.
func (c *chaos) stopReader(within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = c.reader.Load().Stop(ctx)
}

func (c *chaos) startWriter() *udsipc.Writer {
	c.Helper()
	opts := []udsipc.WriterOption{udsipc.WithOverflow(c.policy), udsipc.WithMaxBufferedWrites(500),
		udsipc.WithMaxBackoff(5 * time.Millisecond),
		udsipc.WithUndelivered(func([]byte) {}), udsipc.WithWriterErrorCallback(func(error, string) {})}
	if rand.IntN(3) == 0 {
		opts = append(opts, udsipc.WithMaxAge(10*time.Millisecond))
	}
	w := c.on.StartedWriter(c, opts...)
	c.writers = append(c.writers, w)
	return w
}

// use does one thing to a Writer that programs do.
func (c *chaos) use(ctx context.Context, w *udsipc.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	switch rand.IntN(8) {
	case 0:
		_ = w.Flush(ctx)
	case 1:
		_ = w.WaitConnected(ctx)
	case 2:
		ipctest.CheckInvariant(c, w.Metrics())
	case 3:
		_ = w.WriteMessageContext(ctx, make([]byte, rand.IntN(300_000)))
	default:
		for range 100 {
			_ = w.WriteMessageContext(ctx, []byte("a small one"))
		}
	}
}

// settle lets a Reader take what is left: then every Stop ends well.
func (c *chaos) settle() {
	c.calm.Store(true)
	c.stopReader(time.Second)
	c.startReader()
	for _, w := range c.writers {
		ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
		if err := w.Stop(ctx); errors.Is(err, context.DeadlineExceeded) {
			c.Errorf("Stop: %v, %+v", err, w.Metrics())
		}
		cancel()
		ipctest.CheckInvariant(c, w.Metrics())
	}
	ipctest.Stop(c, c.reader.Load())
}
