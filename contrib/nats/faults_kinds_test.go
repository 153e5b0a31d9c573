// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// What the faults are.

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// A kind is a fault. It is mended when its function returns.
type kind struct {
	name string
	make func(leader, follower int)
	slow bool // All of the stream is copied.
}

// kinds returns all that are possible here.
func (f *faulty) kinds() []kind {
	all := []kind{
		{name: "leader killed", make: func(leader, _ int) { f.killServer(leader) }},
		{name: "follower killed", make: func(_, follower int) { f.killServer(follower) }},
		{name: "disk replaced", make: func(_, follower int) { f.replaceDisk(follower) }, slow: true},
		{name: "leader stepped down", make: func(int, int) {
			_, _ = f.js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN.EVENTS", nil, time.Second)
		}},
		{name: "route cut", make: f.cutRoute},
		{name: "bridge killed", make: func(int, int) {
			f.killBridge()
			f.startBridge()
		}},
		{name: "writers cut", make: func(int, int) { f.cutWriters() }},
	}
	if f.hasDisk() {
		all = append(all, kind{name: "disk full", make: func(int, int) { f.fillDisk() }})
	}
	if only := os.Getenv("UDSIPC_NATS_FAULT_KINDS"); only != "" { // With commas between.
		all = slices.DeleteFunc(all, func(k kind) bool { return !slices.Contains(strings.Split(only, ","), k.name) })
	}
	return all
}

// fault makes one and mends it.
func (f *faulty) fault(k kind) {
	f.Helper()
	leader := f.leader()
	k.make(leader, (leader+1+rand.IntN(2))%3)
}

// replaceDisk has a server begin with an empty disk.
func (f *faulty) replaceDisk(at int) {
	f.Helper()
	f.nodes.Kill(at)
	if err := os.RemoveAll(filepath.Join(f.dirs[at], "jetstream")); err != nil {
		f.Fatal(err)
	}
	f.progress(100)
	if err := f.nodes.Start(at); err != nil {
		f.Fatal(err)
	}
}

func (f *faulty) killServer(at int) {
	f.Helper()
	f.nodes.Kill(at)
	f.progress(100)
	if err := f.nodes.Start(at); err != nil {
		f.Fatal(err)
	}
}

// cutRoute cuts two servers from each other for as long as one of them needs to depose the leader. It may do so
// again and again, so progress is not certain meanwhile.
func (f *faulty) cutRoute(leader, follower int) {
	f.nodes.Cut(leader, follower, true)
	select {
	case <-time.After(cluster.MaxElection):
	case <-f.ctx.Done():
	}
	f.nodes.Cut(leader, follower, false)
}

func (f *faulty) cutWriters() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
		delete(f.conns, conn)
	}
}
