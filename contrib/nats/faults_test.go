// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// Faults of a cluster of three processes, of the bridge, and of connections, at random while writers send
// at full speed. In the end the stream has every message once, in the order of its writer.

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// bridgeEnvironment makes the test binary a bridge: an address, and the URL of the cluster.
const bridgeEnvironment = "UDSIPC_NATS_BRIDGE"

func TestMain(m *testing.M) {
	cluster.Main()
	if address := os.Getenv(bridgeEnvironment); address != "" {
		if err := runBridge(address, os.Getenv(bridgeEnvironment+"_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runBridge(address, url string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.Timeout(time.Second))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	p, err := natsbridge.NewPublisher(js, "EVENTS", "events", natsbridge.WithMaxBackoff(200*time.Millisecond),
		natsbridge.WithAckTimeout(time.Second), natsbridge.WithMoveAfter(time.Second),
		natsbridge.WithStateCallback(func(error) {}))
	if err != nil {
		return err
	}
	r, err := udsipc.NewBatchReader(p.Handle, address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // Ends with the test.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return r.Run(ctx)
}

// A faulty is a test of faults.
type faulty struct {
	*testing.T
	nodes  *cluster.Processes
	js     jetstream.JetStream
	stream jetstream.Stream
	ctx    context.Context
	dir    string
	dirs   []string
	bridge *exec.Cmd

	bridgeInput io.Closer // Its end ends the bridge.
	current     string    // The fault.

	writers []*udsipc.Writer
	mu      sync.Mutex
	conns   map[net.Conn]struct{} // Of the writers.
	written []int
	ending  atomic.Bool
	pause   sync.RWMutex // Held while replicas catch up. At full speed they would not.
}

func TestPublisher_Faults_StoreOnce(t *testing.T) {
	faults, writers := 3, 4
	if s := os.Getenv("UDSIPC_NATS_FAULTS"); s != "" {
		faults, _ = strconv.Atoi(s)
	} else if testing.Short() {
		t.Skip("processes")
	}
	f := &faulty{T: t, dir: t.TempDir(), conns: make(map[net.Conn]struct{}), written: make([]int, writers)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(faults)*15*time.Second)
	defer cancel()
	f.ctx = ctx
	f.startCluster()
	f.startBridge()
	t.Cleanup(f.killBridge)
	var sending sync.WaitGroup
	for i := range writers {
		w := f.startWriter()
		f.writers = append(f.writers, w)
		sending.Go(func() { f.send(i, w) })
	}
	f.progress(1000)
	counts := make(map[string]int)
	kinds := f.kinds()
	var round []kind
	for n, rounds := 0, 0; n < faults; n++ {
		if len(round) == 0 { // Each kind comes in each round, and slow ones in the first one of five.
			round = slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.slow && rounds%5 > 0 })
			rand.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
			rounds++
		}
		k := round[0]
		round = round[1:]
		began := time.Now()
		f.current = k.name
		f.fault(k)
		counts[k.name]++
		f.progress(100)
		back := time.Since(began)
		f.allEqual()
		t.Logf("%3d %-18s %4.1f s, all equal after %4.1f s, %d acknowledged",
			n+1, k.name, back.Seconds(), time.Since(began).Seconds(), f.acknowledged())
	}
	f.ending.Store(true)
	sending.Wait()
	f.allEqual()
	f.check()
	t.Logf("faults by kind: %v", counts)
	for _, kind := range kinds {
		if faults >= len(kinds) && counts[kind.name] == 0 {
			t.Errorf("no fault of kind %s", kind.name)
		}
	}
}

func (f *faulty) startWriter() *udsipc.Writer {
	f.Helper()
	w, err := udsipc.NewWriter(filepath.Join(f.dir, "s"), udsipc.WithAcknowledgements(),
		udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBackoff(50*time.Millisecond),
		udsipc.WithMaxBufferedWrites(2000), udsipc.WithWriterErrorCallback(func(error, string) {}), udsipc.WithDialer(f.dial))
	if err != nil {
		f.Fatal(err)
	}
	if err := w.Start(); err != nil {
		f.Fatal(err)
	}
	return w
}

func (f *faulty) dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(f.dir, "s"))
	if err == nil {
		f.mu.Lock()
		f.conns[conn] = struct{}{}
		f.mu.Unlock()
	}
	return conn, err
}

// send writes until the test ends, and waits for the acknowledgements.
func (f *faulty) send(i int, w *udsipc.Writer) {
	for n := 0; !f.ending.Load() && f.ctx.Err() == nil; n++ {
		f.pause.RLock()
		err := w.WriteMessageContext(f.ctx, fmt.Append(nil, n))
		f.pause.RUnlock()
		if err != nil {
			f.Error(err)
			break
		}
		f.written[i] = n + 1
	}
	if err := w.Stop(f.ctx); err != nil {
		f.Errorf("writer %d: %v", i, err)
	}
}

func (f *faulty) acknowledged() (sum uint64) {
	for _, w := range f.writers {
		sum += w.Metrics().Acknowledged
	}
	return sum
}

// progress waits until each writer has messages acknowledged.
func (f *faulty) progress(messages uint64) {
	f.Helper()
	var want []uint64
	for _, w := range f.writers {
		want = append(want, w.Metrics().Acknowledged+messages)
	}
	f.until("progress", func(context.Context) bool {
		for i, w := range f.writers {
			if w.Metrics().Acknowledged < want[i] {
				return false
			}
		}
		return true
	})
}

// check reads the stream.
func (f *faulty) check() {
	f.Helper()
	w := &world{T: f.T, stream: f.stream, ctx: f.ctx, js: f.js}
	texts := make(map[string]int)
	total, bad := 0, 0
	w.each(func(m storedMessage) {
		if want := texts[m.subject]; m.data != fmt.Sprint(want) {
			if bad++; bad < 10 {
				f.Errorf("message %s of %s: want %d", m.data, m.subject, want)
			}
		}
		texts[m.subject]++
		total++
	})
	want := 0
	for _, n := range f.written {
		want += n
	}
	if total != want || len(texts) != len(f.written) || bad > 0 {
		f.Errorf("%d messages of %d writers, %d out of place: want %d of %d", total, len(texts), bad, want, len(f.written))
	}
	f.Logf("%d messages", total)
}
