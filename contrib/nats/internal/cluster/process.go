// SPDX-License-Identifier: Apache-2.0

package cluster

// This file runs a server as a process of its own, which can be killed, and cuts the network between servers.

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// environment has the Node of a process that StartProcesses has started.
const environment = "UDSIPC_NATS_NODE"

// logEnvironment has the directory for the logs of the servers, if they are wanted.
const logEnvironment = "UDSIPC_NATS_LOGS"

// A Node is a server process.
type Node struct {
	Name, Dir       string
	Port, RoutePort int
	HTTPPort        int // Of its state.
	Routes          []string
	MaxStore        int64
}

// Main runs the server of this process, if it is one, and does not return. A test calls it in TestMain.
func Main() {
	text := os.Getenv(environment)
	if text == "" {
		return
	}
	if err := run(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(text string) error {
	var n Node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	o := &server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, NoLog: true, NoSigs: true,
		HTTPHost: "127.0.0.1", HTTPPort: n.HTTPPort,
		JetStream: true, StoreDir: n.Dir, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: n.MaxStore,
		Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: n.RoutePort, NoAdvertise: true},
		Routes:  server.RoutesFromStr(strings.Join(n.Routes, ",")),
	}
	if dir := os.Getenv(logEnvironment); dir != "" {
		o.NoLog, o.Debug, o.Logtime, o.LogFile = false, true, true, filepath.Join(dir, n.Name+".log")
	}
	shortTimeouts()
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	go s.Start()                           // Ends with the process.
	_, err = io.Copy(io.Discard, os.Stdin) // The end of the test.
	return err
}

// Processes is a cluster of processes. The route between each two of them goes through a Proxy.
type Processes struct {
	Nodes   []Node
	proxies map[[2]int]*Proxy
	running []*exec.Cmd
	stdin   []io.Closer
}

// StartProcesses starts a server for each directory.
func StartProcesses(dirs ...string) (*Processes, error) {
	n := len(dirs)
	ports, err := FreePorts(3 * n)
	if err != nil {
		return nil, err
	}
	p := &Processes{proxies: make(map[[2]int]*Proxy), running: make([]*exec.Cmd, n), stdin: make([]io.Closer, n)}
	for i, dir := range dirs {
		node := Node{
			Name: fmt.Sprintf("n%d", i+1), Dir: dir, MaxStore: 32 << 30,
			Port: ports[i], RoutePort: ports[n+i], HTTPPort: ports[2*n+i],
		}
		for j := range dirs {
			if j == i {
				continue
			}
			proxy, err := NewProxy(fmt.Sprintf("127.0.0.1:%d", ports[n+j]))
			if err != nil {
				return nil, err
			}
			p.proxies[[2]int{i, j}] = proxy
			node.Routes = append(node.Routes, "nats://"+proxy.Addr())
		}
		p.Nodes = append(p.Nodes, node)
		if err := p.Start(i); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Start starts a server that was killed.
func (p *Processes) Start(i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(p.Nodes[i])
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), environment+"="+string(text))
	cmd.Stderr = os.Stderr
	if p.stdin[i], err = cmd.StdinPipe(); err != nil {
		return err
	}
	p.running[i] = cmd
	return cmd.Start()
}

// Kill kills a server with SIGKILL.
func (p *Processes) Kill(i int) {
	if cmd := p.running[i]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		p.running[i] = nil
	}
}

// Cut ends the routes between two servers, and lets none begin until it is called with false.
func (p *Processes) Cut(i, j int, cut bool) {
	p.proxies[[2]int{i, j}].Cut(cut)
	p.proxies[[2]int{j, i}].Cut(cut)
}

// Close kills all servers.
func (p *Processes) Close() {
	for i := range p.running {
		p.Kill(i)
	}
	for _, proxy := range p.proxies {
		proxy.Close()
	}
}

// URL returns the addresses of all servers.
func (p *Processes) URL() string {
	var urls []string
	for _, n := range p.Nodes {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", n.Port))
	}
	return strings.Join(urls, ",")
}

// A Proxy copies between its connections and those that it makes.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // Guards what follows.
	isCut bool
	conns map[net.Conn]struct{}
}

// NewProxy returns a Proxy to an address, at a port of its own.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	go p.accept() // Ends when the listener is closed.
	return p, nil
}

// Addr returns the address of the Proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends the Proxy and its connections.
func (p *Proxy) Close() {
	p.Cut(true)
	_ = p.listener.Close()
}

func (p *Proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.DialTimeout("tcp", p.target, time.Second)
		if err != nil {
			_ = from.Close()
			continue
		}
		p.mu.Lock()
		if p.isCut {
			_, _ = from.Close(), to.Close()
		}
		p.conns[from], p.conns[to] = struct{}{}, struct{}{}
		p.mu.Unlock()
		go p.copy(from, to) // Both end with either of the connections.
		go p.copy(to, from)
	}
}

func (p *Proxy) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
	p.mu.Lock()
	delete(p.conns, from)
	p.mu.Unlock()
}

// Cut ends the connections, and ends each new one until it is called with false.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = cut
	if !cut {
		return
	}
	for conn := range p.conns {
		_ = conn.Close()
	}
}
