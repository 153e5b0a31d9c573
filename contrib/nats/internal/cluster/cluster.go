// SPDX-License-Identifier: Apache-2.0

// Package cluster runs NATS servers with JetStream in this process, for tests and examples.
package cluster

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Cluster is one server or more on this machine. They keep their ports and their files when they are
// stopped and started again.
type Cluster struct {
	Servers []*server.Server
	options []*server.Options
}

// Start starts n servers that store in dir. change, if it is not nil, may set further options.
func Start(n int, dir string, change func(i int, o *server.Options)) (*Cluster, error) {
	ports, err := FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	c := &Cluster{Servers: make([]*server.Server, n)}
	for i := range n {
		o := &server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", Port: ports[i], NoLog: true, NoSigs: true,
			JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprintf("n%d", i+1)),
			JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 64 << 30,
		}
		if n > 1 {
			o.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[n+i], NoAdvertise: true}
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}
		if change != nil {
			change(i, o)
		}
		c.options = append(c.options, o)
	}
	for i := range n {
		if err := c.StartServer(i); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// FreePorts returns ports that nobody listens at.
func FreePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // All are open until the last one is found.
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// StartServer starts a server that was stopped.
func (c *Cluster) StartServer(i int) error {
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		return err
	}
	go s.Start() // Ends when it listens, or with StopServer.
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return fmt.Errorf("server %d does not listen", i+1)
	}
	c.Servers[i] = s
	return nil
}

// StopServer stops a server.
func (c *Cluster) StopServer(i int) {
	if s := c.Servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.Servers[i] = nil
	}
}

// Close stops all servers.
func (c *Cluster) Close() {
	for i := range c.Servers {
		c.StopServer(i)
	}
}

// URL returns the addresses of all servers, the i-th one first.
func (c *Cluster) URL(first int) string {
	var urls []string
	for i := range c.options {
		o := c.options[(first+i)%len(c.options)]
		urls = append(urls, fmt.Sprintf("nats://%s:%d", o.Host, o.Port))
	}
	return strings.Join(urls, ",")
}

// Connect connects to the i-th server, or to another one, for as long as it takes.
func (c *Cluster) Connect(first int, opts ...nats.Option) (jetstream.JetStream, error) {
	opts = append([]nats.Option{
		nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.PingInterval(2 * time.Second),
	}, opts...)
	nc, err := nats.Connect(c.URL(first), opts...)
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}

// CreateStream creates a stream with a replica on each server, once they have found each other.
func (c *Cluster) CreateStream(
	ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig,
) (jetstream.Stream, error) {
	cfg.Replicas = len(c.Servers)
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := js.CreateStream(try, cfg)
		cancel()
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}
