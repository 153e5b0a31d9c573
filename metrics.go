// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a program can ask about its Writers and Readers: snapshots, which marshal to
// JSON, and the counters behind them.

import (
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/receiver"
)

// WriterMetrics is a snapshot of a Writer, of one moment:
//
//	Accepted = Sent + Dropped + Expired + Undelivered + Queued
//
// Each accepted message is in exactly one of these. The counters below them are read one by one.
type WriterMetrics struct {
	Accepted    uint64 `json:"accepted"`    // Messages for which a write returned nil.
	Sent        uint64 `json:"sent"`        // Messages that the kernel took; with acknowledgements, handled ones.
	Dropped     uint64 `json:"dropped"`     // Messages that OverflowDropOldest dropped.
	Expired     uint64 `json:"expired"`     // Messages that WithMaxAge dropped.
	Undelivered uint64 `json:"undelivered"` // Messages left at Stop or set aside; handed to WithUndelivered.
	Queued      uint64 `json:"queued"`      // Messages in the queue now, those being written included.
	QueuedBytes uint64 `json:"queued_bytes"`

	// How long the oldest message of Queued waits: for a connection, the kernel, or its acknowledgement.
	OldestAge time.Duration `json:"oldest_age_ns"`

	Refused      uint64 `json:"refused"`       // Messages for which a write returned ErrBufferFull.
	TooLarge     uint64 `json:"too_large"`     // Messages for which a write returned ErrMessageTooLarge.
	PossiblyLost uint64 `json:"possibly_lost"` // Upper bound of the messages in Sent that were never read.

	// With acknowledgements; otherwise 0.
	Acknowledged   uint64         `json:"acknowledged"`   // Messages that a handler has returned for; the same as Sent.
	Unacknowledged uint64         `json:"unacknowledged"` // Messages of Queued that the present connection has taken.
	Retransmitted  uint64         `json:"retransmitted"`  // Messages that had to be sent again, each time counted.
	AckTime        LatencySummary `json:"ack_time"`       // From the write of a message to its acknowledgement.

	Connected       bool   `json:"connected"`
	Connections     uint64 `json:"connections"`      // Connections made.
	LostConnections uint64 `json:"lost_connections"` // Connections that broke or that the peer ended.
	DialErrors      uint64 `json:"dial_errors"`      // Attempts to connect that failed, for whatever reason.
	Unauthorized    uint64 `json:"unauthorized"`     // Those that the authorizer refused.
	HandshakeErrors uint64 `json:"handshake_errors"` // Those of which the TLS handshake failed.
	Writes          uint64 `json:"writes"`           // Vectored writes; one system call each, unless the socket was full.
	WrittenBytes    uint64 `json:"written_bytes"`
	Backpressure    uint64 `json:"backpressure"` // Writes that waited for WithWriteTimeout.
	Errors          uint64 `json:"errors"`       // Calls of the error callback, had there been one.
}

// writerCounts are the counters that are neither the queue's nor the loop's.
type writerCounts struct {
	tooLarge, errors              atomic.Uint64
	unauthorized, handshakeErrors atomic.Uint64
}

// dialed counts why an attempt to connect has failed.
func (c *writerCounts) dialed(err error) {
	if failed, ok := err.(*errdefs.Error); ok { // Not by what it wraps, which may be an authorizer's.
		switch failed.Op {
		case OpHandshake:
			c.handshakeErrors.Add(1)
		case OpAuthorize:
			c.unauthorized.Add(1)
		}
	}
}

// linkCounts are the counters of a Link that its queue does not have.
type linkCounts struct {
	writerCounts
	connections, lost, dialErrors atomic.Uint64
}

// Metrics returns a snapshot. It may be called at any time. A Link has no acknowledgements, and counts
// neither writes nor possible losses. Sent are messages that a connection has taken. Those of packages duplex and rpc
// that concern only a connection which has ended meanwhile, such as a cancelled call, count as sent, too.
func (l *Link) Metrics() WriterMetrics {
	queued, _ := l.queue.Snapshot()
	return WriterMetrics{
		Accepted:    queued.Accepted,
		Sent:        queued.Sent + queued.DroppedControl, // No counter may shrink.
		Dropped:     queued.Dropped - queued.DroppedControl,
		Undelivered: queued.Undelivered,
		Queued:      queued.Queued,
		QueuedBytes: queued.QueuedBytes,
		OldestAge:   queued.OldestAge,

		Refused:  queued.Refused,
		TooLarge: l.counts.tooLarge.Load(),

		Connected:       l.State() == StateConnected,
		Connections:     l.counts.connections.Load(),
		LostConnections: l.counts.lost.Load(),
		DialErrors:      l.counts.dialErrors.Load(),
		Unauthorized:    l.counts.unauthorized.Load(),
		HandshakeErrors: l.counts.handshakeErrors.Load(),
		Errors:          l.cfg.events.reported.Load(),
	}
}

// Metrics returns a snapshot. It may be called at any time.
func (w *Writer) Metrics() WriterMetrics {
	queued, ackTime := w.queue.Snapshot()
	var acknowledged uint64
	if w.cfg.acknowledgements {
		acknowledged = queued.Sent
	}
	connected, loop := w.loop.Connected(), w.loop.Snapshot()
	return WriterMetrics{
		Accepted:    queued.Accepted,
		Sent:        queued.Sent,
		Dropped:     queued.Dropped,
		Expired:     queued.Expired,
		Undelivered: queued.Undelivered,
		Queued:      queued.Queued,
		QueuedBytes: queued.QueuedBytes,
		OldestAge:   queued.OldestAge,

		Refused:      queued.Refused,
		TooLarge:     w.counts.tooLarge.Load(),
		PossiblyLost: loop.PossiblyLost,

		Acknowledged:   acknowledged,
		Unacknowledged: queued.Unacknowledged,
		Retransmitted:  queued.Retransmitted,
		AckTime:        LatencySummary(ackTime),

		Connected:       connected,
		Connections:     loop.Connections,
		LostConnections: loop.LostConnections,
		DialErrors:      loop.DialErrors,
		Unauthorized:    w.counts.unauthorized.Load(),
		HandshakeErrors: w.counts.handshakeErrors.Load(),
		Writes:          loop.Writes,
		WrittenBytes:    loop.WrittenBytes,
		Backpressure:    loop.Backpressure,
		Errors:          w.counts.errors.Load(),
	}
}

// GetMetrics is the short form of Metrics: messages sent; messages dropped because the queue was full
// or they were too old, refused ones included; messages undelivered or possibly lost; messages queued.
func (w *Writer) GetMetrics() (sent, dropped, failed uint64, queueDepth int) {
	m := w.Metrics()
	return m.Sent, m.Dropped + m.Expired + m.Refused, m.Undelivered + m.PossiblyLost, int(m.Queued)
}

// ReaderMetrics is a snapshot of a Reader. A message is counted when it is handed to the handler, so
// that at any moment HandlerErrors + Panics <= Received.
type ReaderMetrics struct {
	Received      uint64 `json:"received"` // Messages handed to the handler.
	ReceivedBytes uint64 `json:"received_bytes"`
	Batches       uint64 `json:"batches"`        // Calls of a BatchHandler.
	HandlerErrors uint64 `json:"handler_errors"` // Messages that failed at their first delivery, in a batch all of it.
	Panics        uint64 `json:"panics"`         // Messages at whose first delivery the handler panicked or called Goexit.
	TooSlow       uint64 `json:"too_slow"`       // Connections closed by WithMessageTimeout or WithFirstMessageTimeout.
	Stalled       uint64 `json:"stalled"`        // Conns closed by WithStallTimeout.
	TooLarge      uint64 `json:"too_large"`      // Messages refused because of WithMaxMessageSize.
	Discarded     uint64 `json:"discarded"`      // Messages of plain connections, read but not handled at a forced stop.
	Truncated     uint64 `json:"truncated"`      // Connections that ended in the middle of a message.
	Malformed     uint64 `json:"malformed"`      // Connections that sent an impossible length prefix or hello.

	ReadMemory      uint64 `json:"read_memory"`       // Bytes of read buffers over 16 KiB now (WithMaxReadMemory).
	ReadMemoryWaits uint64 `json:"read_memory_waits"` // How often a connection waited for memory.
	SendMemory      uint64 `json:"send_memory"`       // Of a Listener: bytes queued for its peers now (WithMaxSendMemory).
	Dropped         uint64 `json:"dropped"`           // Of a Listener: messages that OverflowDropOldest dropped.

	// Of writers that ask for acknowledgements.
	WriterStates         uint64 `json:"writer_states"`         // Remembered now (WithMaxWriterStates).
	Sessions             uint64 `json:"sessions"`              // Sessions opened.
	Acknowledged         uint64 `json:"acknowledged"`          // Messages that were acknowledged.
	Redelivered          uint64 `json:"redelivered"`           // Messages handed to the handler with Redelivered set.
	DuplicatesSuppressed uint64 `json:"duplicates_suppressed"` // Handled messages that a welcome kept from coming again.
	DeadLetters          uint64 `json:"dead_letters"`          // Messages that the handler failed for too often.

	Connections     uint64 `json:"connections"`      // Open now.
	Accepted        uint64 `json:"accepted"`         // Connections accepted or inherited, refused ones included.
	HandedOver      uint64 `json:"handed_over"`      // Connections handed over to the next process (HandOver).
	Inherited       uint64 `json:"inherited"`        // Connections inherited from an earlier process.
	Refused         uint64 `json:"refused"`          // Connections over WithMaxConnections or WithMaxConnectionsPerUser.
	IdleClosed      uint64 `json:"idle_closed"`      // Connections ended because of WithInactivityTimeout.
	Unauthorized    uint64 `json:"unauthorized"`     // Connections that the authorizer refused.
	HandshakeErrors uint64 `json:"handshake_errors"` // Connections of which the TLS handshake failed.
	AcceptErrors    uint64 `json:"accept_errors"`
	Reads           uint64 `json:"reads"`  // System calls that read, those that found nothing included.
	Errors          uint64 `json:"errors"` // Calls of the error callback, had there been one.
}

// LatencySummary is a summary of how long something took. Percentiles are exact to a quarter of their value,
// and never below the true one.
type LatencySummary struct {
	Count uint64        `json:"count"` // Messages.
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`

	SumSeconds float64 `json:"sum_seconds"` // Sum of the times.

	// Buckets counts the times below LatencyBound(i): a time is in each bucket that it is below, as in a histogram
	// of Prometheus.
	Buckets [22]uint64 `json:"buckets"`
}

// LatencyBound returns the bound of a bucket of a LatencySummary: 8.192 µs for bucket 0, and twice as much for each
// further one, up to 17.2 s.
func LatencyBound(bucket int) time.Duration { return latency.Bound(bucket) }

// Metrics returns a snapshot. It may be called at any time.
func (r *Reader) Metrics() ReaderMetrics {
	m := readerMetrics(r.server.Snapshot())
	m.setMemory(r.readMemory)
	return m
}

func readerMetrics(n receiver.Counts) ReaderMetrics {
	return ReaderMetrics{
		Received:      n.Received,
		ReceivedBytes: n.ReceivedBytes,
		Batches:       n.Batches,
		HandlerErrors: n.HandlerErrors,
		Panics:        n.Panics,
		TooSlow:       n.TooSlow,
		TooLarge:      n.TooLarge,
		Discarded:     n.Discarded,
		Truncated:     n.Truncated,
		Malformed:     n.Malformed,

		WriterStates:         uint64(n.WriterStates),
		Sessions:             n.Sessions,
		Acknowledged:         n.Acknowledged,
		Redelivered:          n.Redelivered,
		DuplicatesSuppressed: n.Duplicates,
		DeadLetters:          n.DeadLetters,

		Connections:     uint64(n.Open),
		Accepted:        n.Accepted,
		Refused:         n.Refused,
		HandedOver:      n.HandedOver,
		Inherited:       n.Inherited,
		IdleClosed:      n.IdleClosed,
		Unauthorized:    n.Unauthorized,
		HandshakeErrors: n.HandshakeErrors,
		AcceptErrors:    n.AcceptErrors,
		Reads:           n.Reads,
		Errors:          n.Errors,
	}
}

// setMemory notes what the read buffers have.
func (m *ReaderMetrics) setMemory(memory *readMemory) {
	m.ReadMemory = uint64(max(0, memory.used.Load()))
	m.ReadMemoryWaits = memory.waits.Load()
}

// GetMetrics is the short form of Metrics: messages received, connections accepted so far, and
// messages or connections that went wrong.
func (r *Reader) GetMetrics() (received, connections, errors uint64) {
	m := r.Metrics()
	return m.Received, m.Accepted, m.HandlerErrors + m.Panics + m.TooLarge + m.Truncated + m.Malformed + m.AcceptErrors
}
