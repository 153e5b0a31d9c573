// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a receiving connection counts.

import "sync/atomic"

// connCounts are written by one goroutine, so that no two processors fight over them.
type connCounts struct {
	received, receivedBytes, reads, acknowledged atomic.Uint64
}

// readCounts are the counters of one connection, or the sum of several.
type readCounts struct {
	received      uint64 // Messages that were handed over.
	receivedBytes uint64
	reads         uint64 // System calls.
	acknowledged  uint64 // Messages.
}

// counted returns the counters. Any goroutine may ask.
func (in *inbound) counted() readCounts {
	return readCounts{
		received: in.counts.received.Load(), receivedBytes: in.counts.receivedBytes.Load(),
		reads: in.counts.reads.Load(), acknowledged: in.counts.acknowledged.Load(),
	}
}

// add adds the counters of other connections.
func (c *readCounts) add(other readCounts) {
	c.received += other.received
	c.receivedBytes += other.receivedBytes
	c.reads += other.reads
	c.acknowledged += other.acknowledged
}
