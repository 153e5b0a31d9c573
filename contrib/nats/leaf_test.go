// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// startServer starts a server with a JetStream domain, and returns a connection to it.
func (w *world) startServer(domain string, o *server.Options) jetstream.JetStream {
	w.Helper()
	o.ServerName, o.Host, o.Port, o.NoLog, o.NoSigs = domain, "127.0.0.1", -1, true, true
	o.JetStream, o.JetStreamDomain, o.StoreDir = true, domain, filepath.Join(w.dir, domain)
	s, err := server.NewServer(o)
	if err != nil {
		w.Fatal(err)
	}
	go s.Start() // Ends with Shutdown.
	w.Cleanup(s.WaitForShutdown)
	w.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(10 * time.Second) {
		w.Fatalf("%s does not listen", domain)
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.Fatal(err)
	}
	return js
}

// TestLeaf_HubSources_EachOnce: two machines have a leaf node each, with a stream of their own, and a hub
// gathers both. The line to the hub is cut in the middle. docs/SCALING.md counts on it: a machine goes on
// without the hub, and the hub gets everything once and in order afterwards.
func TestLeaf_HubSources_EachOnce(t *testing.T) {
	const leaves, writers, messages = 2, 2, 1500
	w := newWorld(t, 1, jetstream.StreamConfig{}, nil) // Its server is not used.
	ports, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	hub := w.startServer("hub", &server.Options{LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: ports[0]}})
	line, err := cluster.NewProxy(fmt.Sprintf("127.0.0.1:%d", ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	all := jetstream.StreamConfig{Name: "ALL"}
	var sending sync.WaitGroup
	cut := make(chan struct{})
	for i := range leaves {
		domain := fmt.Sprintf("leaf%d", i+1)
		leaf := w.startServer(domain, &server.Options{LeafNode: server.LeafNodeOpts{
			ReconnectInterval: 100 * time.Millisecond,
			Remotes:           []*server.RemoteLeafOpts{{URLs: []*url.URL{{Scheme: "nats-leaf", Host: line.Addr()}}}},
		}})
		cfg := streamConfig() // Of subjects of its own: a leaf node hears what the others publish.
		cfg.Subjects = []string{"events." + domain + ".>"}
		if _, err := leaf.CreateStream(w.ctx, cfg); err != nil {
			t.Fatal(err)
		}
		all.Sources = append(all.Sources, &jetstream.StreamSource{Name: "EVENTS", Domain: domain})
		p, err := natsbridge.NewPublisher(leaf, "EVENTS", "events."+domain)
		if err != nil {
			t.Fatal(err)
		}
		for n := range writers {
			sending.Go(func() {
				id := byte(1 + i*writers + n)
				for from := 0; from < messages; from += 100 {
					if from == messages/3*2 {
						<-cut
					}
					w.handles(p, deliveries(id, from, from+100, false))
				}
			})
		}
	}
	if w.stream, err = hub.CreateStream(w.ctx, all); err != nil {
		t.Fatal(err)
	}
	w.hubHas(500) // Of both: the second half waits for it.
	line.Cut(true)
	close(cut)
	sending.Wait() // The machines go on without the hub.
	line.Cut(false)
	began := time.Now()
	w.hubHas(writers * messages)
	t.Logf("the hub has everything %v after the line is back", time.Since(began))
	w.wantOnce(leaves*writers, messages)
}

// hubHas waits until the stream has messages of each leaf.
func (w *world) hubHas(messages int) {
	w.Helper()
	for _, domain := range []string{"leaf1", "leaf2"} {
		filter := "events." + domain + ".>"
		for has := uint64(0); has < uint64(messages); {
			info, err := w.stream.Info(w.ctx, jetstream.WithSubjectFilter(filter))
			if err != nil {
				w.Fatal(err)
			}
			has = 0
			for _, n := range info.State.Subjects {
				has += n
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
