// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a receiving connection counts.

import "sync/atomic"

// connCounts are written by one goroutine, so that no two processors fight over them.
type connCounts struct {
	received, receivedBytes, reads, acknowledged atomic.Uint64
}

func (c *connCounts) add(other *connCounts) {
	c.received.Add(other.received.Load())
	c.receivedBytes.Add(other.receivedBytes.Load())
	c.reads.Add(other.reads.Load())
	c.acknowledged.Add(other.acknowledged.Load())
}
