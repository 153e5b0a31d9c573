// SPDX-License-Identifier: Apache-2.0

// Package publish publishes the metrics of a Reader or a Writer on a Unix socket of its own, and finds and reads
// such sockets. The socket lies in a directory that only the user of the process may enter. A client gets one line
// of JSON when it connects, and one more for each newline that it sends. docs/METRICS.md is the protocol.
package publish

// This file is the publishing side, from Start to Stop.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
)

// The limits of the protocol.
const (
	Version    = 1
	MaxLine    = 64 << 10 // Bytes of a snapshot, the newline included.
	MaxClients = 8        // Of one socket, at the same time.
	MaxName    = 32       // Bytes of a name.

	idleTimeout  = time.Minute // How long a client may ask for nothing.
	writeTimeout = time.Second // How long a client may leave a snapshot unread.

	maxAttempts = 16                     // To find a free name.
	acceptPause = 100 * time.Millisecond // After accepting has failed.
	maxAccepts  = 50                     // Failures in a row that are reported.
)

// suffix ends the name of each socket.
const suffix = ".sock"

// A Config is what is published.
type Config struct {
	Name    string
	Kind    string // The type whose metrics these are, such as "writer".
	Address string

	// Snapshot returns the metrics, which marshal to a JSON object. Numbers are counters, except Gauges.
	Snapshot func() any
	Gauges   []string

	// Peers returns up to limit peers, and how many there are beyond. It may be nil.
	Peers func(limit int) (peers []Peer, more int)

	Report func(err error) // Called if the metrics cannot be published.
}

// A Publication is a socket on which metrics are published. All methods may be called with nil.
type Publication struct {
	cfg     Config
	clients sync.WaitGroup // The accept loop and the connections.

	mu       sync.Mutex // Guards what follows.
	start    time.Time
	stopped  bool
	failed   bool          // It was reported that there is no snapshot.
	ended    chan struct{} // Closed by Stop.
	listener net.Listener  // nil: not started.
	file     *socket.File
	conns    map[net.Conn]struct{}
}

// numbers tells the sockets of this process apart.
var numbers atomic.Uint64

// New returns a publication that begins with Start.
func New(cfg Config) *Publication {
	return &Publication{cfg: cfg, ended: make(chan struct{}), conns: make(map[net.Conn]struct{})}
}

// SetSource changes what is published, before Start.
func (p *Publication) SetSource(kind string, snapshot func() any, gauges []string) {
	if p != nil {
		p.cfg.Kind, p.cfg.Snapshot, p.cfg.Gauges = kind, snapshot, gauges
	}
}

// CheckName reports what is wrong with a name, or nil.
func CheckName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if name == "" || len(name) > MaxName || name[0] == '.' || strings.Trim(name, letters) != "" {
		return fmt.Errorf("want 1 to %d letters (a-z, A-Z), digits, '-', '_' and '.', which must not be the first", MaxName)
	}
	return nil
}

// Start creates the socket. An error is reported: metrics stop no program. After Stop it does nothing.
func (p *Publication) Start() {
	if p == nil {
		return
	}
	p.mu.Lock()
	if p.stopped || p.listener != nil {
		p.mu.Unlock()
		return
	}
	folder, err := p.listenLocked()
	if err == nil {
		p.start = time.Now()
		p.clients.Add(1)
		go p.run(p.listener, folder) // Ends with the listener; Stop waits for it.
	}
	p.mu.Unlock()
	if err != nil {
		p.cfg.Report(err)
	}
}

func (p *Publication) listenLocked() (folder string, err error) {
	if folder, err = Folder(); err != nil {
		return "", err
	}
	if err := socket.MakePrivate(folder); err != nil {
		return "", err
	}
	for range maxAttempts {
		name := fmt.Sprintf("%d-%d-%s%s", os.Getpid(), numbers.Add(1), p.cfg.Name, suffix)
		address, err := socket.Parse("unix:" + filepath.Join(folder, name))
		if err != nil {
			return "", err
		}
		p.listener, p.file, err = socket.Listen(socket.Spec{Address: address, Mode: 0o600, Uid: -1, Gid: -1})
		if err == nil || !errors.Is(err, errdefs.ErrSocketInUse) {
			return folder, err
		}
	}
	return "", fmt.Errorf("%w: %d names in %s", errdefs.ErrSocketInUse, maxAttempts, folder)
}

// Stop removes the socket and ends all connections. It may be called again, and before Start.
func (p *Publication) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	if !p.stopped && p.listener != nil {
		_ = p.file.Remove()    // Else whoever lists the folder next removes it.
		_ = p.listener.Close() // Accept returns.
		for conn := range p.conns {
			_ = conn.Close()
		}
	}
	if !p.stopped {
		p.stopped = true
		close(p.ended)
	}
	p.mu.Unlock()
	p.clients.Wait()
}

// run serves clients until the listener is closed.
func (p *Publication) run(listener net.Listener, folder string) {
	p.sweep(folder)
	for failures := 0; ; {
		err := p.accept(listener, &failures)
		p.clients.Done()
		if err == nil {
			return
		}
		p.cfg.Report(err) // Stop does not wait for this call.
		if !p.goOn() {
			return
		}
	}
}

// goOn has Stop wait for the accept loop again, unless it was called.
func (p *Publication) goOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.clients.Add(1)
	}
	return !p.stopped
}

// sweep removes what killed processes have left in the directory, once in a process: if nobody looks, a program that
// crashes again and again would fill the directory, and hide the living.
func (p *Publication) sweep(folder string) {
	if _, done := swept.LoadOrStore(folder, true); done {
		return
	}
	found, _ := Find(folder) // What cannot be listed stays.
	for _, endpoint := range found {
		select {
		case <-p.ended:
			return
		default:
		}
		if endpoint.isGone() {
			endpoint.removeStale()
		}
	}
}

// swept has the directories in which this process has published.
var swept sync.Map

// accept serves clients until the listener is closed. An error is to be reported; then accept goes on.
func (p *Publication) accept(listener net.Listener, failures *int) error {
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			*failures = 0
			p.admit(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		}
		select {
		case <-time.After(acceptPause): // Mostly there are too many open files.
		case <-p.ended:
			return nil
		}
		if *failures++; *failures == maxAccepts {
			return fmt.Errorf("accepting has failed %d times: %w", *failures, err)
		}
	}
}

// admit serves a client, unless there are too many.
func (p *Publication) admit(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || len(p.conns) >= MaxClients {
		_ = conn.Close()
		return
	}
	p.conns[conn] = struct{}{}
	p.clients.Add(1)
	go p.serve(conn) // Ends with the connection; Stop waits for it.
}

// begin returns when the publication was started.
func (p *Publication) begin() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start
}
