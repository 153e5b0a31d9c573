// SPDX-License-Identifier: Apache-2.0

package main

// This file is what each number of the metrics is.

// helps are the texts by the names in JSON.
var helps = map[string]string{
	"nats_connected":  "Whether there is a connection to the cluster (1) or not (0).",
	"nats_reconnects": "Connections to the cluster that were made anew.",

	"publisher_published": "Messages that the stream has acknowledged.",
	"publisher_skipped":   "Messages that the stream had already.",
	"publisher_batches":   "Batches that the stream has acknowledged.",
	"publisher_failed":    "Batches that were not acknowledged, and were tried again.",
	"publisher_conflicts": "Failed batches that met messages of an earlier try, or of another bridge.",
	"publisher_waiting":   "Messages that wait for the stream.",

	"forwarder_received":     "Messages that JetStream has sent, each time.",
	"forwarder_handled":      "Messages that the local reader has handled.",
	"forwarder_failed":       "Messages that the handler of the local reader has failed for (-failures).",
	"forwarder_returned":     "Messages that were given back to JetStream.",
	"forwarder_dead_letters": "Messages that were ended after the last delivery.",
	"forwarder_pending":      "Messages that wait for the local reader.",

	"reader_received":              "Messages of local writers that were handed to the handler.",
	"reader_received_bytes":        "Bytes of these messages.",
	"reader_batches":               "Calls of the handler.",
	"reader_handler_errors":        "Messages that failed at their first delivery, in a batch all of it.",
	"reader_panics":                "Messages at whose first delivery the handler panicked.",
	"reader_too_slow":              "Connections closed because a message did not arrive in time.",
	"reader_stalled":               "Connections closed because the peer did not read.",
	"reader_too_large":             "Messages over the limit of the reader.",
	"reader_discarded":             "Messages without acknowledgements, read but not handled at a forced stop.",
	"reader_truncated":             "Connections that ended in the middle of a message.",
	"reader_malformed":             "Connections that sent an impossible length or hello.",
	"reader_read_memory":           "Bytes of read buffers over 16 KiB.",
	"reader_read_memory_waits":     "How often a connection waited for memory.",
	"reader_send_memory":           "Bytes that are queued for peers.",
	"reader_dropped":               "Messages to peers that were dropped.",
	"reader_writer_states":         "Writers that the reader remembers.",
	"reader_sessions":              "Sessions with acknowledgements that were opened.",
	"reader_acknowledged":          "Messages that were acknowledged to local writers.",
	"reader_redelivered":           "Messages handed to the handler that may have been handled before.",
	"reader_duplicates_suppressed": "Handled messages that a welcome kept from coming again.",
	"reader_dead_letters":          "Messages that the cluster will never take, and that were given up.",
	"reader_connections":           "Open connections of local writers.",
	"reader_accepted":              "Connections accepted or inherited, refused ones included.",
	"reader_handed_over":           "Connections handed over to the next process.",
	"reader_inherited":             "Connections inherited from an earlier process.",
	"reader_refused":               "Connections over the limit.",
	"reader_idle_closed":           "Connections closed because they were idle.",
	"reader_unauthorized":          "Connections that the authorizer refused.",
	"reader_handshake_errors":      "Connections of which the TLS handshake failed.",
	"reader_accept_errors":         "Errors of accepting connections.",
	"reader_reads":                 "System calls that read.",
	"reader_errors":                "Errors that were reported.",
}
