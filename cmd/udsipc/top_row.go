// SPDX-License-Identifier: Apache-2.0

package main

// This file makes a row of two snapshots: what each kind of source calls what the table shows.

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/udsipc/udsipc/internal/publish"
)

// A topKind names the metrics that the table shows of a kind of sources. An empty name is shown as nothing.
type topKind struct {
	messages, bytes        string // Counters.
	queue, queueBytes, age string // Gauges.
	connections            string
	latency                string
	errors                 string
	drops                  []string // Counters of messages that do not arrive.
}

var (
	serverDrops = []string{"dead_letters", "discarded", "dropped", "too_large", "truncated"}
	writerDrops = []string{"dropped", "expired", "undelivered", "refused", "too_large", "possibly_lost"}
	linkKind    = topKind{
		messages: "sent", queue: "queued", queueBytes: "queued_bytes", age: "oldest_age_ns", connections: "connected",
		errors: "errors", drops: writerDrops,
	}
	topKinds = map[string]topKind{
		"writer": {
			messages: "sent", bytes: "written_bytes", queue: "queued", queueBytes: "queued_bytes",
			age: "oldest_age_ns", connections: "connected", latency: "ack_time", errors: "errors", drops: writerDrops,
		},
		"link":          linkKind,
		"duplex-client": linkKind,
		"rpc-client":    linkKind,
		"spool": {
			messages: "sent", bytes: "writer_written_bytes", queue: "queued", queueBytes: "queued_bytes",
			age: "oldest_age_ns", connections: "writer_connected", latency: "writer_ack_time", errors: "writer_errors",
			drops: []string{"dropped", "expired", "undelivered", "damaged", "refused", "too_large"},
		},
		"reader": {
			messages: "received", bytes: "received_bytes", queueBytes: "read_memory", connections: "connections",
			errors: "errors", drops: serverDrops,
		},
		"listener": {
			messages: "received", bytes: "received_bytes", queueBytes: "send_memory", connections: "connections",
			errors: "errors", drops: serverDrops,
		},
		"rpc": {
			messages: "received", bytes: "received_bytes", queue: "active_calls", queueBytes: "response_bytes",
			connections: "connections", errors: "errors", drops: serverDrops,
		},
	}
)

// kindOf returns the names for a kind. A kind that is not known is shown as a listener.
func kindOf(name string) topKind {
	if kind, ok := topKinds[name]; ok {
		return kind
	}
	return topKinds["listener"]
}

// A topRow is what the table shows of a source.
type topRow struct {
	endpoint    publish.Endpoint
	now, before *snapshotOf // now is nil after an error.
	err         error

	program, kind, name, address string // Without control characters.

	messages, bytes            float64 // Per second.
	queue, queueBytes          int64
	hasQueue                   bool
	age                        time.Duration
	drops, errors, connections uint64
	p50, p99                   time.Duration // -1: none.
	peers                      []topPeer
}

// A topPeer is a peer of a source.
type topPeer struct {
	publish.Peer
	rate float64 // Messages per second.
}

func newTopRow(s *topSource) *topRow {
	r := &topRow{endpoint: s.endpoint, now: s.last, before: s.before, err: s.err, name: s.endpoint.Name, p50: -1, p99: -1}
	if r.err != nil || r.now == nil {
		r.now, r.kind = nil, "?"
		return r
	}
	r.program = printable(filepath.Base(r.now.Executable))
	r.kind, r.name, r.address = printable(r.now.Kind), printable(r.now.Name), printable(r.now.Address)
	kind := kindOf(r.now.Kind)
	r.messages, r.bytes = r.rate(kind.messages), r.rate(kind.bytes)
	r.queue, r.hasQueue = r.now.Gauges[kind.queue], kind.queue != ""
	r.queueBytes, r.age = r.now.Gauges[kind.queueBytes], time.Duration(r.now.Gauges[kind.age])
	r.errors, r.connections = r.now.Counters[kind.errors], uint64(max(0, r.now.Gauges[kind.connections]))
	for _, name := range kind.drops {
		r.drops += r.now.Counters[name]
	}
	if l := r.now.Latencies[kind.latency]; l.Count > 0 {
		r.p50, r.p99 = l.P50, l.P99
	}
	r.setPeers()
	return r
}

// isSender reports whether the source sends messages, and does not receive them.
func (r *topRow) isSender() bool { return r.now != nil && kindOf(r.now.Kind).messages == "sent" }

// seconds returns the time that the rates are of: since the snapshot before, or since the start.
func (r *topRow) seconds() float64 {
	if r.before != nil {
		return r.now.Time.Sub(r.before.Time).Seconds()
	}
	return r.now.Time.Sub(r.now.Start).Seconds()
}

// rate returns how much a counter grows each second.
func (r *topRow) rate(name string) float64 {
	now, before := r.now.Counters[name], uint64(0)
	if r.before != nil {
		before = r.before.Counters[name]
	}
	return perSecond(now, before, r.seconds())
}

// perSecond returns a rate. A source may tell anything: nothing is negative or endless.
func perSecond(now, before uint64, seconds float64) float64 {
	if now < before || seconds <= 0 {
		return 0
	}
	return float64(now-before) / seconds
}

// rates returns the rates of all counters.
func (r *topRow) rates() map[string]float64 {
	rates := make(map[string]float64, len(r.now.Counters))
	for name := range r.now.Counters {
		rates[name] = r.rate(name)
	}
	return rates
}

// setPeers sets the peers, those with most messages per second first.
func (r *topRow) setPeers() {
	before := map[uint64]uint64{}
	if r.before != nil {
		for _, p := range r.before.Peers {
			before[p.ID] = p.Messages
		}
	}
	for _, p := range r.now.Peers {
		p.Address = printable(p.Address)
		r.peers = append(r.peers, topPeer{p, perSecond(p.Messages, before[p.ID], r.seconds())})
	}
	slices.SortStableFunc(r.peers, func(a, b topPeer) int { return cmp.Compare(b.rate, a.rate) })
}

// maxText is how many characters of a source's text are shown.
const maxText = 128

// printable returns a text of a source as it may be shown: one line, without control characters.
func printable(text string) string {
	runes := []rune(strings.ToValidUTF8(text, "?"))
	if len(runes) > maxText {
		runes = append(runes[:maxText-1], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = '?'
		}
	}
	return string(runes)
}
