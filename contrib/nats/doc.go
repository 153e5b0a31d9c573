// SPDX-License-Identifier: Apache-2.0

// Package natsbridge joins the local writers and readers of udsipc with the streams of a NATS JetStream
// cluster.
//
// # Local to cluster
//
// A Publisher is the handler of a udsipc.NewBatchReader. It returns when JetStream has acknowledged the
// batch, so an acknowledged message leaves the queue of its Writer only when the cluster has stored it on
// a majority of its servers. The subject of a message is PREFIX.WRITER, or PREFIX.WRITER.REST with
// WithSubject. WRITER names the user and the Writer.
//
// Each message is stored once, in the order of its Writer:
//
//   - A batch is an atomic batch of JetStream: all of it is stored, in order, or nothing.
//   - Its first message of a Writer is a compare-and-set: it has the stream's number of the last message under
//     the subjects of the Writer (Nats-Expected-Last-Subject-Sequence).
//   - Its last message of a Writer has the number of the Writer (Nats-Msg-Id: WRITER.SEQ).
//
// When the fate of a batch is unknown (a killed server, a lost answer, another bridge), the Publisher
// reads the last message of the Writer back, leaves out what the stream has, and tries again. If the older
// try is stored after that, the compare-and-set of the newer one fails; if the newer one is first, that of
// the older one does. This needs no duplicate window and no time. It holds as long as the stream keeps the
// last message of a Writer. Streams whose consumers remove messages (work queue, interest) do not keep it;
// there every message has a Nats-Msg-Id, and the duplicate window of the stream bounds how late a message
// may come again.
//
// A Publisher commits its batches one after another, because of a fault of NATS servers: of batches that are
// committed at once, a replica that was away can lose messages. Give each Publisher a stream of its own,
// or read "What can lose what a server has acknowledged" in README.md.
//
// The Publisher needs a stream with AllowAtomicPublish, which servers have since 2.12. Plain Writers
// (without acknowledgements) are numbered by connection; what they have sent to a killed bridge is lost,
// as with any reader.
//
// # Cluster to local
//
// A Forwarder sends the messages of a consumer to a local Reader. It acknowledges each to JetStream when the Reader
// has acknowledged it. What the Reader does not take, or what its program reports as failed (package failures), is
// given back with growing delays, and after the last delivery ended with a reason and kept as a dead letter.
package natsbridge
