// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file has the metrics of all snapshots. docs/METRICS.md explains them.

import (
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

func writerTable() (t table[udsipc.WriterMetrics]) {
	type metrics = udsipc.WriterMetrics
	type parts = part[metrics]
	t.counter("writer.messages_accepted", "{message}", "Messages for which a write returned no error.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counter("writer.messages_sent", "{message}",
		"Messages that the kernel took; with acknowledgements, that were handled.",
		func(m *metrics) uint64 { return m.Sent })
	t.counter("writer.messages_acknowledged", "{message}", "Messages that the reader has acknowledged.",
		func(m *metrics) uint64 { return m.Acknowledged })
	t.counters("writer.messages_dropped", "{message}", "Accepted messages that were given up.",
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }},
		parts{"expired", func(m *metrics) uint64 { return m.Expired }},
		parts{"undelivered", func(m *metrics) uint64 { return m.Undelivered }})
	t.counters("writer.messages_refused", "{message}", "Messages for which a write returned an error.",
		parts{"full", func(m *metrics) uint64 { return m.Refused }},
		parts{"too_large", func(m *metrics) uint64 { return m.TooLarge }})
	t.counter("writer.messages_possibly_lost", "{message}", "Upper bound of the sent messages that were never read.",
		func(m *metrics) uint64 { return m.PossiblyLost })
	t.counter("writer.messages_retransmitted", "{message}", "Messages that had to be sent again, each time.",
		func(m *metrics) uint64 { return m.Retransmitted })
	t.sum("writer.queue_messages", "{message}", "Messages in the queue.",
		func(m *metrics) int64 { return int64(m.Queued) })
	t.sum("writer.queue", "By", "Bytes in the queue.", func(m *metrics) int64 { return int64(m.QueuedBytes) })
	t.sum("writer.unacknowledged_messages", "{message}", "Messages in the queue that the connection has taken.",
		func(m *metrics) int64 { return int64(m.Unacknowledged) })
	t.age("writer.oldest_message_age", "s", "How long the oldest message of the queue waits.",
		func(m *metrics) time.Duration { return m.OldestAge })
	t.latency("writer.delivery_duration", "s", "From the write of a message to its acknowledgement.",
		func(m *metrics) udsipc.LatencySummary { return m.AckTime })
	t.sum("writer.connected", "{connection}", "Whether there is a connection.",
		func(m *metrics) int64 { return truth(m.Connected) })
	t.counter("writer.connections", "{connection}", "Connections made.",
		func(m *metrics) uint64 { return m.Connections })
	t.counter("writer.connections_lost", "{connection}", "Connections that broke or that the peer ended.",
		func(m *metrics) uint64 { return m.LostConnections })
	t.counter("writer.connect_errors", "{error}", "Attempts to connect that failed.",
		func(m *metrics) uint64 { return m.DialErrors })
	t.counter("writer.unauthorized", "{connection}", "Attempts to connect that the authorizer refused.",
		func(m *metrics) uint64 { return m.Unauthorized })
	t.counter("writer.handshake_errors", "{error}", "Attempts to connect that failed in the TLS handshake.",
		func(m *metrics) uint64 { return m.HandshakeErrors })
	t.counter("writer.writes", "{call}", "System calls that write.", func(m *metrics) uint64 { return m.Writes })
	t.counter("writer.written", "By", "Bytes that the kernel took.",
		func(m *metrics) uint64 { return m.WrittenBytes })
	t.counter("writer.backpressure", "{write}", "Writes that waited for the write timeout.",
		func(m *metrics) uint64 { return m.Backpressure })
	t.counter("writer.errors", "{error}", "Errors that were reported.", func(m *metrics) uint64 { return m.Errors })
	return t
}

func readerTable() (t table[udsipc.ReaderMetrics]) {
	type metrics = udsipc.ReaderMetrics
	type parts = part[metrics]
	t.counter("reader.messages_received", "{message}", "Messages handed to the handler.",
		func(m *metrics) uint64 { return m.Received })
	t.counter("reader.received", "By", "Bytes of the messages handed to the handler.",
		func(m *metrics) uint64 { return m.ReceivedBytes })
	t.counter("reader.batches", "{batch}", "Calls of a batch handler.", func(m *metrics) uint64 { return m.Batches })
	t.counters("reader.handler_failures", "{message}",
		"Messages for which the handler failed at their first delivery.",
		parts{"error", func(m *metrics) uint64 { return m.HandlerErrors }},
		parts{"panic", func(m *metrics) uint64 { return m.Panics }})
	t.counter("reader.messages_acknowledged", "{message}", "Messages that were acknowledged.",
		func(m *metrics) uint64 { return m.Acknowledged })
	t.counter("reader.messages_redelivered", "{message}", "Messages handed to the handler again.",
		func(m *metrics) uint64 { return m.Redelivered })
	t.counter("reader.duplicates_suppressed", "{message}", "Handled messages that were kept from coming again.",
		func(m *metrics) uint64 { return m.DuplicatesSuppressed })
	t.counter("reader.dead_letters", "{message}", "Messages for which the handler failed too often.",
		func(m *metrics) uint64 { return m.DeadLetters })
	t.counter("reader.messages_too_large", "{message}", "Messages over the limit of the size.",
		func(m *metrics) uint64 { return m.TooLarge })
	t.counters("reader.messages_dropped", "{message}",
		"Messages that were given up: unhandled at a forced stop, or unsent.",
		parts{"discarded", func(m *metrics) uint64 { return m.Discarded }},
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }})
	readerConnections(&t)
	t.sum("reader.writer_states", "{writer}", "Writers that are remembered.",
		func(m *metrics) int64 { return int64(m.WriterStates) })
	t.sum("reader.read_memory", "By", "Large read buffers.", func(m *metrics) int64 { return int64(m.ReadMemory) })
	t.counter("reader.read_memory_waits", "{wait}", "How often a connection waited for memory.",
		func(m *metrics) uint64 { return m.ReadMemoryWaits })
	t.sum("reader.send_memory", "By", "Bytes queued for the peers.",
		func(m *metrics) int64 { return int64(m.SendMemory) })
	t.counter("reader.reads", "{call}", "System calls that read.", func(m *metrics) uint64 { return m.Reads })
	t.counter("reader.errors", "{error}", "Errors that were reported.", func(m *metrics) uint64 { return m.Errors })
	return t
}

// readerConnections adds the metrics of a reader's connections.
func readerConnections(t *table[udsipc.ReaderMetrics]) {
	type metrics = udsipc.ReaderMetrics
	type parts = part[metrics]
	t.sum("reader.connections", "{connection}", "Open connections.",
		func(m *metrics) int64 { return int64(m.Connections) })
	t.counter("reader.connections_accepted", "{connection}",
		"Connections accepted or inherited, refused ones included.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counters("reader.connections_refused", "{connection}", "Connections that were refused.",
		parts{"limit", func(m *metrics) uint64 { return m.Refused }},
		parts{"unauthorized", func(m *metrics) uint64 { return m.Unauthorized }},
		parts{"handshake", func(m *metrics) uint64 { return m.HandshakeErrors }})
	t.counters("reader.connections_failed", "{connection}",
		"Connections that ended because of what the peer did or left undone.",
		parts{"too_slow", func(m *metrics) uint64 { return m.TooSlow }},
		parts{"stalled", func(m *metrics) uint64 { return m.Stalled }},
		parts{"truncated", func(m *metrics) uint64 { return m.Truncated }},
		parts{"malformed", func(m *metrics) uint64 { return m.Malformed }})
	t.counter("reader.connections_idle_closed", "{connection}", "Connections ended because they were idle.",
		func(m *metrics) uint64 { return m.IdleClosed })
	t.counter("reader.connections_handed_over", "{connection}", "Connections handed over to the next process.",
		func(m *metrics) uint64 { return m.HandedOver })
	t.counter("reader.connections_inherited", "{connection}", "Connections inherited from an earlier process.",
		func(m *metrics) uint64 { return m.Inherited })
	t.counter("reader.accept_errors", "{error}", "Failures to accept a connection.",
		func(m *metrics) uint64 { return m.AcceptErrors })
	t.counter("reader.sessions", "{session}", "Sessions with acknowledgements that were opened.",
		func(m *metrics) uint64 { return m.Sessions })
}

func spoolTable() (t table[spool.Metrics]) {
	type metrics = spool.Metrics
	type parts = part[metrics]
	t.counter("spool.messages_accepted", "{message}", "Messages for which a write returned no error.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counter("spool.messages_found", "{message}", "Messages that earlier processes have left.",
		func(m *metrics) uint64 { return m.Found })
	t.counter("spool.messages_sent", "{message}", "Messages that the reader has handled.",
		func(m *metrics) uint64 { return m.Sent })
	t.counter("spool.messages_known", "{message}", "Sent messages that the reader knew already at a start.",
		func(m *metrics) uint64 { return m.Known })
	t.counters("spool.messages_dropped", "{message}", "Accepted or found messages that were given up.",
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }},
		parts{"expired", func(m *metrics) uint64 { return m.Expired }},
		parts{"undelivered", func(m *metrics) uint64 { return m.Undelivered }},
		parts{"damaged", func(m *metrics) uint64 { return m.Damaged }})
	t.counters("spool.messages_refused", "{message}", "Messages for which a write returned an error.",
		parts{"full", func(m *metrics) uint64 { return m.Refused }},
		parts{"too_large", func(m *metrics) uint64 { return m.TooLarge }})
	t.sum("spool.queue_messages", "{message}", "Messages on the disk that are not handled.",
		func(m *metrics) int64 { return int64(m.Queued) })
	t.sum("spool.queue", "By", "Size of the files with messages.",
		func(m *metrics) int64 { return int64(m.QueuedBytes) })
	t.sum("spool.segments", "{file}", "Files with messages.", func(m *metrics) int64 { return int64(m.Segments) })
	t.age("spool.oldest_message_age", "s", "How long the oldest message waits.",
		func(m *metrics) time.Duration { return m.OldestAge })
	t.sum("spool.unsynced", "By", "What a loss of power may take.",
		func(m *metrics) int64 { return int64(m.UnsyncedBytes) })
	t.sum("spool.damaged", "By", "Size of what cannot be read.",
		func(m *metrics) int64 { return int64(m.DamagedBytes) })
	t.counter("spool.identities_given_up", "{identity}", "How often the spool had to begin with another identity.",
		func(m *metrics) uint64 { return m.Identities })
	t.counter("spool.sync_errors", "{error}", "Syncs of a file that failed.",
		func(m *metrics) uint64 { return m.SyncErrors })
	t.latency("spool.sync_duration", "s", "How long a sync of a file takes.",
		func(m *metrics) udsipc.LatencySummary { return m.SyncTime })
	return t
}

func serverTable() (t table[rpc.ServerMetrics]) {
	type metrics = rpc.ServerMetrics
	t.sum("rpc.server.active_calls", "{call}", "Calls and streams in flight.",
		func(m *metrics) int64 { return int64(m.ActiveCalls) })
	t.sum("rpc.server.request", "By", "Requests of calls in flight.",
		func(m *metrics) int64 { return int64(m.RequestBytes) })
	t.sum("rpc.server.response", "By", "Responses that wait for space in a send queue.",
		func(m *metrics) int64 { return int64(m.ResponseBytes) })
	t.sum("rpc.server.stream", "By", "Messages of streams that no handler has received.",
		func(m *metrics) int64 { return int64(m.StreamBytes) })
	return t
}

func clientTable() (t table[rpc.ClientMetrics]) {
	t.sum("rpc.client.active_calls", "{call}", "Calls and streams in flight.",
		func(m *rpc.ClientMetrics) int64 { return int64(m.ActiveCalls) })
	return t
}
