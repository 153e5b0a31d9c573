// SPDX-License-Identifier: Apache-2.0

package udsipcprom

// This file has the metrics of all snapshots. docs/METRICS.md explains them.

import (
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

func writerTable() (t table[udsipc.WriterMetrics]) {
	type metrics = udsipc.WriterMetrics
	type parts = part[metrics]
	t.counter("writer_messages_accepted_total", "Messages for which a write returned no error.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counter("writer_messages_sent_total", "Messages that the kernel took; with acknowledgements, that were handled.",
		func(m *metrics) uint64 { return m.Sent })
	t.counter("writer_messages_acknowledged_total", "Messages that the reader has acknowledged.",
		func(m *metrics) uint64 { return m.Acknowledged })
	t.counters("writer_messages_dropped_total", "Accepted messages that were given up.",
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }},
		parts{"expired", func(m *metrics) uint64 { return m.Expired }},
		parts{"undelivered", func(m *metrics) uint64 { return m.Undelivered }})
	t.counters("writer_messages_refused_total", "Messages for which a write returned an error.",
		parts{"full", func(m *metrics) uint64 { return m.Refused }},
		parts{"too_large", func(m *metrics) uint64 { return m.TooLarge }})
	t.counter("writer_messages_possibly_lost_total", "Upper bound of the sent messages that were never read.",
		func(m *metrics) uint64 { return m.PossiblyLost })
	t.counter("writer_messages_retransmitted_total", "Messages that had to be sent again, each time.",
		func(m *metrics) uint64 { return m.Retransmitted })
	t.gauge("writer_queue_messages", "Messages in the queue.", func(m *metrics) float64 { return float64(m.Queued) })
	t.gauge("writer_queue_bytes", "Bytes in the queue.", func(m *metrics) float64 { return float64(m.QueuedBytes) })
	t.gauge("writer_unacknowledged_messages", "Messages in the queue that the connection has taken.",
		func(m *metrics) float64 { return float64(m.Unacknowledged) })
	t.gauge("writer_oldest_message_age_seconds", "How long the oldest message of the queue waits.",
		func(m *metrics) float64 { return seconds(m.OldestAge) })
	t.latency("writer_delivery_duration_seconds", "From the write of a message to its acknowledgement.",
		func(m *metrics) udsipc.LatencySummary { return m.AckTime })
	t.gauge("writer_connected", "Whether there is a connection.", func(m *metrics) float64 { return truth(m.Connected) })
	t.counter("writer_connections_total", "Connections made.", func(m *metrics) uint64 { return m.Connections })
	t.counter("writer_connections_lost_total", "Connections that broke or that the peer ended.",
		func(m *metrics) uint64 { return m.LostConnections })
	t.counter("writer_connect_errors_total", "Attempts to connect that failed.",
		func(m *metrics) uint64 { return m.DialErrors })
	t.counter("writer_unauthorized_total", "Attempts to connect that the authorizer refused.",
		func(m *metrics) uint64 { return m.Unauthorized })
	t.counter("writer_handshake_errors_total", "Attempts to connect that failed in the TLS handshake.",
		func(m *metrics) uint64 { return m.HandshakeErrors })
	t.counter("writer_writes_total", "System calls that write.", func(m *metrics) uint64 { return m.Writes })
	t.counter("writer_written_bytes_total", "Bytes that the kernel took.",
		func(m *metrics) uint64 { return m.WrittenBytes })
	t.counter("writer_backpressure_total", "Writes that waited for the write timeout.",
		func(m *metrics) uint64 { return m.Backpressure })
	t.counter("writer_errors_total", "Errors that were reported.", func(m *metrics) uint64 { return m.Errors })
	return t
}

func readerTable() (t table[udsipc.ReaderMetrics]) {
	type metrics = udsipc.ReaderMetrics
	type parts = part[metrics]
	t.counter("reader_messages_received_total", "Messages handed to the handler.",
		func(m *metrics) uint64 { return m.Received })
	t.counter("reader_received_bytes_total", "Bytes of the messages handed to the handler.",
		func(m *metrics) uint64 { return m.ReceivedBytes })
	t.counter("reader_batches_total", "Calls of a batch handler.", func(m *metrics) uint64 { return m.Batches })
	t.counters("reader_handler_failures_total", "Messages for which the handler failed at their first delivery.",
		parts{"error", func(m *metrics) uint64 { return m.HandlerErrors }},
		parts{"panic", func(m *metrics) uint64 { return m.Panics }})
	t.counter("reader_messages_acknowledged_total", "Messages that were acknowledged.",
		func(m *metrics) uint64 { return m.Acknowledged })
	t.counter("reader_messages_redelivered_total", "Messages handed to the handler again.",
		func(m *metrics) uint64 { return m.Redelivered })
	t.counter("reader_duplicates_suppressed_total", "Handled messages that were kept from coming again.",
		func(m *metrics) uint64 { return m.DuplicatesSuppressed })
	t.counter("reader_dead_letters_total", "Messages for which the handler failed too often.",
		func(m *metrics) uint64 { return m.DeadLetters })
	t.counter("reader_messages_too_large_total", "Messages over the limit of the size.",
		func(m *metrics) uint64 { return m.TooLarge })
	t.counters("reader_messages_dropped_total", "Messages that were given up: unhandled at a forced stop, or unsent.",
		parts{"discarded", func(m *metrics) uint64 { return m.Discarded }},
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }})
	readerConnections(&t)
	t.gauge("reader_writer_states", "Writers that are remembered.",
		func(m *metrics) float64 { return float64(m.WriterStates) })
	t.gauge("reader_read_memory_bytes", "Large read buffers.", func(m *metrics) float64 { return float64(m.ReadMemory) })
	t.counter("reader_read_memory_waits_total", "How often a connection waited for memory.",
		func(m *metrics) uint64 { return m.ReadMemoryWaits })
	t.gauge("reader_send_memory_bytes", "Bytes queued for the peers.",
		func(m *metrics) float64 { return float64(m.SendMemory) })
	t.counter("reader_reads_total", "System calls that read.", func(m *metrics) uint64 { return m.Reads })
	t.counter("reader_errors_total", "Errors that were reported.", func(m *metrics) uint64 { return m.Errors })
	return t
}

// readerConnections adds the metrics of a reader's connections.
func readerConnections(t *table[udsipc.ReaderMetrics]) {
	type metrics = udsipc.ReaderMetrics
	type parts = part[metrics]
	t.gauge("reader_connections", "Open connections.", func(m *metrics) float64 { return float64(m.Connections) })
	t.counter("reader_connections_accepted_total", "Connections accepted or inherited, refused ones included.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counters("reader_connections_refused_total", "Connections that were refused.",
		parts{"limit", func(m *metrics) uint64 { return m.Refused }},
		parts{"unauthorized", func(m *metrics) uint64 { return m.Unauthorized }},
		parts{"handshake", func(m *metrics) uint64 { return m.HandshakeErrors }})
	t.counters("reader_connections_failed_total", "Connections that ended because of what the peer did or left undone.",
		parts{"too_slow", func(m *metrics) uint64 { return m.TooSlow }},
		parts{"stalled", func(m *metrics) uint64 { return m.Stalled }},
		parts{"truncated", func(m *metrics) uint64 { return m.Truncated }},
		parts{"malformed", func(m *metrics) uint64 { return m.Malformed }})
	t.counter("reader_connections_idle_closed_total", "Connections ended because they were idle.",
		func(m *metrics) uint64 { return m.IdleClosed })
	t.counter("reader_connections_handed_over_total", "Connections handed over to the next process.",
		func(m *metrics) uint64 { return m.HandedOver })
	t.counter("reader_connections_inherited_total", "Connections inherited from an earlier process.",
		func(m *metrics) uint64 { return m.Inherited })
	t.counter("reader_accept_errors_total", "Failures to accept a connection.",
		func(m *metrics) uint64 { return m.AcceptErrors })
	t.counter("reader_sessions_total", "Sessions with acknowledgements that were opened.",
		func(m *metrics) uint64 { return m.Sessions })
}

func spoolTable() (t table[spool.Metrics]) {
	type metrics = spool.Metrics
	type parts = part[metrics]
	t.counter("spool_messages_accepted_total", "Messages for which a write returned no error.",
		func(m *metrics) uint64 { return m.Accepted })
	t.counter("spool_messages_found_total", "Messages that earlier processes have left.",
		func(m *metrics) uint64 { return m.Found })
	t.counter("spool_messages_sent_total", "Messages that the reader has handled.",
		func(m *metrics) uint64 { return m.Sent })
	t.counter("spool_messages_known_total", "Sent messages that the reader knew already at a start.",
		func(m *metrics) uint64 { return m.Known })
	t.counters("spool_messages_dropped_total", "Accepted or found messages that were given up.",
		parts{"overflow", func(m *metrics) uint64 { return m.Dropped }},
		parts{"expired", func(m *metrics) uint64 { return m.Expired }},
		parts{"undelivered", func(m *metrics) uint64 { return m.Undelivered }},
		parts{"damaged", func(m *metrics) uint64 { return m.Damaged }})
	t.counters("spool_messages_refused_total", "Messages for which a write returned an error.",
		parts{"full", func(m *metrics) uint64 { return m.Refused }},
		parts{"too_large", func(m *metrics) uint64 { return m.TooLarge }})
	t.gauge("spool_queue_messages", "Messages on the disk that are not handled.",
		func(m *metrics) float64 { return float64(m.Queued) })
	t.gauge("spool_queue_bytes", "Size of the files with messages.",
		func(m *metrics) float64 { return float64(m.QueuedBytes) })
	t.gauge("spool_segments", "Files with messages.", func(m *metrics) float64 { return float64(m.Segments) })
	t.gauge("spool_oldest_message_age_seconds", "How long the oldest message waits.",
		func(m *metrics) float64 { return seconds(m.OldestAge) })
	t.gauge("spool_unsynced_bytes", "What a loss of power may take.",
		func(m *metrics) float64 { return float64(m.UnsyncedBytes) })
	t.gauge("spool_damaged_bytes", "Size of what cannot be read.",
		func(m *metrics) float64 { return float64(m.DamagedBytes) })
	t.counter("spool_identities_given_up_total", "How often the spool had to begin with another identity.",
		func(m *metrics) uint64 { return m.Identities })
	t.counter("spool_sync_errors_total", "Syncs of a file that failed.", func(m *metrics) uint64 { return m.SyncErrors })
	t.latency("spool_sync_duration_seconds", "How long a sync of a file takes.",
		func(m *metrics) udsipc.LatencySummary { return m.SyncTime })
	return t
}

func serverTable() (t table[rpc.ServerMetrics]) {
	type metrics = rpc.ServerMetrics
	t.gauge("rpc_server_active_calls", "Calls and streams in flight.",
		func(m *metrics) float64 { return float64(m.ActiveCalls) })
	t.gauge("rpc_server_request_bytes", "Requests of calls in flight.",
		func(m *metrics) float64 { return float64(m.RequestBytes) })
	t.gauge("rpc_server_response_bytes", "Responses that wait for space in a send queue.",
		func(m *metrics) float64 { return float64(m.ResponseBytes) })
	t.gauge("rpc_server_stream_bytes", "Messages of streams that no handler has received.",
		func(m *metrics) float64 { return float64(m.StreamBytes) })
	return t
}

func clientTable() (t table[rpc.ClientMetrics]) {
	t.gauge("rpc_client_active_calls", "Calls and streams in flight.",
		func(m *rpc.ClientMetrics) float64 { return float64(m.ActiveCalls) })
	return t
}
