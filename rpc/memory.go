// SPDX-License-Identifier: Apache-2.0

package rpc

// This file limits the memory that a Server uses for its clients. Each connection has a share, so
// that one client does not use up the memory of the others.

import "sync/atomic"

// defaultMemory is the default of SetMaxMemory, in bytes.
const defaultMemory = 128 << 20

// The share of one connection, as a part of the limit.
const (
	maxShareDivisor = 2 // While the total is under the limit.
	// At the limit, until the total is twice the limit; with more connections, one part each.
	fairShareDivisor = 16
	minShareDivisor  = 1024 // Always.
)

// A memoryLimit counts the memory that a Server uses for its clients, in bytes.
type memoryLimit struct {
	limit    int64
	used     atomic.Int64
	sessions atomic.Int64 // Number of connections.

	requests  atomic.Int64 // Part of used: requests of calls in flight.
	responses atomic.Int64 // Part of used: responses that wait for space in a send queue.
	streams   atomic.Int64 // Part of used: stream messages that no handler has received.
}

// allows reports whether a connection may use own bytes while all connections use all bytes.
func (m *memoryLimit) allows(own, all int64) bool {
	return all <= m.limit && own <= m.limit/maxShareDivisor ||
		all <= 2*m.limit && own <= m.limit/max(fairShareDivisor, m.sessions.Load()) ||
		own <= m.limit/minShareDivisor
}

// tryReserve reserves n bytes for the connection that own counts, and reports whether it could.
// kind is the counter of the part.
func (m *memoryLimit) tryReserve(own, kind *atomic.Int64, n int) bool {
	size := int64(n)
	mine, all := own.Add(size), m.used.Add(size)
	if !m.allows(mine, all) && all > size { // Without other reservations n is always accepted.
		own.Add(-size)
		m.used.Add(-size)
		return false
	}
	kind.Add(size)
	return true
}

// release returns n reserved bytes.
func (m *memoryLimit) release(own, kind *atomic.Int64, n int) {
	own.Add(-int64(n))
	m.used.Add(-int64(n))
	kind.Add(-int64(n))
}

// isScarce reports whether unused buffers should be freed.
func (m *memoryLimit) isScarce() bool { return m.used.Load() > m.limit/4 }

// exhausted reports whether a connection uses its whole share.
func (m *memoryLimit) exhausted(own *atomic.Int64) bool {
	return !m.allows(own.Load()+1, m.used.Load()+1)
}
