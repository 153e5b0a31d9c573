// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file publishes metrics for other programs to see: the option, and what the socket tells of a Writer and of
// a Reader. Package publish has the socket.

import (
	"fmt"
	"net"

	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/internal/receiver"
)

// WithPublishedMetrics publishes the metrics from Start to the end, on a Unix socket of mode 0600 in a directory
// that only the user of the process may enter: udsipc in XDG_RUNTIME_DIR or RUNTIME_DIRECTORY, else /run/udsipc for
// root, else /tmp/udsipc-UID. The command "udsipc top" shows them; docs/METRICS.md is the protocol. Nothing is
// computed while nobody looks.
//
// name tells the Writers and Readers of a program apart: 1 to 32 letters, digits, '-', '_' and '.', anything else is
// an error. If the metrics cannot be published, that is reported with OpPublish, and the program goes on; on Windows
// the error matches errors.ErrUnsupported. Servers and clients of package duplex and rpc take this option, and so does
// a spool (spool.WithWriter).
func WithPublishedMetrics(name string) Option {
	return bothOption(func(c *sharedConfig) { c.publishName, c.publishSet = name, true })
}

// checkPublished checks the name.
func (c *sharedConfig) checkPublished() error {
	if !c.publishSet {
		return nil
	}
	if err := publish.CheckName(c.publishName); err != nil {
		return fmt.Errorf("udsipc: WithPublishedMetrics(%q): %w", c.publishName, err)
	}
	return nil
}

// publication returns the publication, or nil if nothing is published. cfg has what is specific to the type.
func (c *sharedConfig) publication(cfg publish.Config) *publish.Publication {
	if !c.publishSet {
		return nil
	}
	cfg.Name, cfg.Address = c.publishName, c.address.String()
	return publish.New(cfg)
}

// The metrics that are no counters. Those that are true or false need not be here.
var (
	writerGauges = []string{"oldest_age_ns", "queued", "queued_bytes", "unacknowledged"}
	readerGauges = []string{"connections", "read_memory", "send_memory", "writer_states"}
)

// newPublication returns the publication of a Writer.
func (w *Writer) newPublication() *publish.Publication {
	return w.cfg.publication(publish.Config{
		Kind: "writer", Gauges: writerGauges, Snapshot: func() any { return w.Metrics() },
		Peers: func(int) ([]publish.Peer, int) {
			if peer := w.peer.Load(); peer != nil && w.loop.Connected() {
				return onePeer(peer), 0
			}
			return nil, 0
		},
		Report: func(err error) { w.report(OpPublish, err) },
	})
}

// newPublication returns the publication of a Link.
func (l *Link) newPublication() *publish.Publication {
	return l.cfg.publication(publish.Config{
		Kind: "link", Gauges: writerGauges, Snapshot: func() any { return l.Metrics() },
		Peers: func(int) ([]publish.Peer, int) {
			if peer, ok := l.Peer(); ok {
				return onePeer(&peer), 0
			}
			return nil, 0
		},
		Report: func(err error) { l.cfg.events.report(OpPublish, l.cfg.addrText, err) },
	})
}

// onePeer returns the peer of whoever connects.
func onePeer(peer *Peer) []publish.Peer {
	return []publish.Peer{publishedPeer(peer.ID, namedAddress(peer.Addr), (*peercred.Credentials)(peer.Credentials))}
}

// namedAddress returns the address of a peer, or "" without one, and for a Unix socket without a name.
func namedAddress(address net.Addr) string {
	if address == nil || address.String() == "@" {
		return ""
	}
	return address.String()
}

// serverPublication returns the publication of a Reader or a Listener.
func (c *sharedConfig) serverPublication(kind string, snapshot func() any, s *receiver.Server) *publish.Publication {
	return c.publication(publish.Config{
		Kind: kind, Gauges: readerGauges, Snapshot: snapshot,
		Peers: func(limit int) ([]publish.Peer, int) {
			conns, more := s.Peers(limit)
			peers := make([]publish.Peer, len(conns))
			for i, conn := range conns {
				peers[i] = publishedPeer(conn.ID, namedAddress(conn.Addr), conn.Credentials)
				peers[i].Messages, peers[i].Bytes = conn.Received, conn.ReceivedBytes
			}
			return peers, more
		},
		Report: func(err error) { s.Report(OpPublish, c.addrText, err) },
	})
}

func publishedPeer(id uint64, address string, credentials *peercred.Credentials) publish.Peer {
	peer := publish.Peer{ID: id, Address: address, UID: -1}
	if credentials != nil {
		peer.UID, peer.PID = credentials.UID, credentials.PID
	}
	return peer
}
