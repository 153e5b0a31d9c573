// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the counters of a receiving connection.

import "sync/atomic"

// connCounts are written by one goroutine: no cache line moves between processors.
type connCounts struct {
	received, receivedBytes, reads, acknowledged atomic.Uint64
}

// ReadCounts are the counters of one connection, or the sum of several.
type ReadCounts struct {
	Received      uint64 // Messages that were handed over.
	ReceivedBytes uint64
	Reads         uint64 // System calls.
	Acknowledged  uint64 // Messages.
}

// Counted returns the counters. Any goroutine may call it.
func (in *In) Counted() ReadCounts {
	return ReadCounts{
		Received: in.counts.received.Load(), ReceivedBytes: in.counts.receivedBytes.Load(),
		Reads: in.counts.reads.Load(), Acknowledged: in.counts.acknowledged.Load(),
	}
}

// Add adds the counters of other connections.
func (c *ReadCounts) Add(other ReadCounts) {
	c.Received += other.Received
	c.ReceivedBytes += other.ReceivedBytes
	c.Reads += other.Reads
	c.Acknowledged += other.Acknowledged
}
