// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The cluster and the bridge of the tests of faults.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

func (f *faulty) startCluster() {
	f.Helper()
	for i := range 3 {
		f.dirs = append(f.dirs, f.storage(i))
	}
	var err error
	if f.nodes, err = cluster.StartProcesses(f.dirs...); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(f.nodes.Close)
	nc, err := nats.Connect(f.nodes.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.Timeout(time.Second))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	if f.js, err = jetstream.New(nc); err != nil {
		f.Fatal(err)
	}
	cfg := streamConfig()
	cfg.Replicas = 3
	f.until("the stream is there", func(ctx context.Context) bool {
		f.stream, err = f.js.CreateStream(ctx, cfg)
		return err == nil
	})
	f.allEqual()
}

// until tries until it is true.
func (f *faulty) until(what string, try func(ctx context.Context) bool) {
	f.Helper()
	limit := time.After(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		ctx, cancel := context.WithTimeout(f.ctx, time.Second)
		done := try(ctx)
		cancel()
		if done {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			f.Fatalf("not in time: %s; %s; %v acknowledged; %s", f.current, what, f.each(), f.describe())
		}
	}
}

// each returns how many messages of each writer are acknowledged.
func (f *faulty) each() (all []uint64) {
	for _, w := range f.writers {
		all = append(all, w.Metrics().Acknowledged)
	}
	return all
}

// describe returns the state of the stream.
func (f *faulty) describe() string {
	info, err := f.stream.Info(f.ctx)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%d messages, leader %s", info.State.Msgs, info.Cluster.Leader)
	for _, r := range info.Cluster.Replicas {
		text += fmt.Sprintf(", %+v", *r)
	}
	all, err := f.nodes.Replicas(f.ctx, "EVENTS")
	return fmt.Sprintf("%s; replicas %+v %v", text, all, err)
}

// leader waits for a leader of the stream, and returns its place.
func (f *faulty) leader() (at int) {
	f.Helper()
	f.until("a leader", func(ctx context.Context) bool {
		info, err := f.stream.Info(ctx)
		if err != nil || info.Cluster == nil {
			return false
		}
		_, err = fmt.Sscanf(info.Cluster.Leader, "n%d", &at)
		return err == nil
	})
	return at - 1
}

// allEqual waits until each server has what the others have: the next fault may be of another one. A replica
// that has lost something never becomes equal. It may take long, but not without a step.
func (f *faulty) allEqual() {
	f.Helper()
	f.pause.Lock()
	defer f.pause.Unlock()
	var last []cluster.Replica
	for equal := false; !equal; {
		f.until("equal replicas", func(ctx context.Context) bool {
			all, err := f.nodes.Replicas(ctx, "EVENTS")
			if err != nil || f.ctx.Err() != nil {
				return false
			}
			equal = all[0] == all[1] && all[1] == all[2]
			step := !slices.Equal(all, last)
			last = all
			return equal || step
		})
	}
}

func (f *faulty) startBridge() {
	f.Helper()
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	f.bridge = exec.Command(self)
	f.bridge.Env = append(os.Environ(), bridgeEnvironment+"="+filepath.Join(f.dir, "s"),
		bridgeEnvironment+"_URL="+f.nodes.URL())
	if f.bridgeInput, err = f.bridge.StdinPipe(); err != nil {
		f.Fatal(err)
	}
	if err := f.bridge.Start(); err != nil {
		f.Fatal(err)
	}
}

func (f *faulty) killBridge() {
	_ = f.bridge.Process.Signal(syscall.SIGKILL)
	_ = f.bridge.Wait()
}
