// SPDX-License-Identifier: Apache-2.0

package rpc

// This file bounds what clients can have a Server hold: by connection first, so that nobody's calls are refused for what
// another one does.

import "sync/atomic"

// defaultMemory bounds what a Server holds for its clients, in bytes.
const defaultMemory = 128 << 20

// What one connection may have, as a part of the limit of all.
const (
	maxShareDivisor  = 2    // Of what is free.
	fairShareDivisor = 16   // Once the limit is reached, up to twice the limit; with more connections, as many parts.
	minShareDivisor  = 1024 // Whatever the others have.
)

// A memoryLimit counts what a Server holds for its clients.
type memoryLimit struct {
	limit    int64
	used     atomic.Int64
	sessions atomic.Int64 // Connections.

	requests  atomic.Int64 // Of used: requests of calls under way.
	responses atomic.Int64 // What has to wait for room in the queue of its connection.
	streams   atomic.Int64 // Messages of streams that nobody has received yet.
}

// allows says whether a connection may have so much, of so much in all.
func (m *memoryLimit) allows(own, all int64) bool {
	return all <= m.limit && own <= m.limit/maxShareDivisor ||
		all <= 2*m.limit && own <= m.limit/max(fairShareDivisor, m.sessions.Load()) ||
		own <= m.limit/minShareDivisor
}

// tryReserve adds n bytes for a connection that has own, if it may have them.
func (m *memoryLimit) tryReserve(own, kind *atomic.Int64, n int) bool {
	size := int64(n)
	mine, all := own.Add(size), m.used.Add(size)
	if !m.allows(mine, all) && all > size { // One is always taken.
		own.Add(-size)
		m.used.Add(-size)
		return false
	}
	kind.Add(size)
	return true
}

// release takes n bytes off again.
func (m *memoryLimit) release(own, kind *atomic.Int64, n int) {
	own.Add(-int64(n))
	m.used.Add(-int64(n))
	kind.Add(-int64(n))
}

// isScarce says whether nothing should be kept for later.
func (m *memoryLimit) isScarce() bool { return m.used.Load() > m.limit/4 }

// exhausted says whether a connection has all that it may have.
func (m *memoryLimit) exhausted(own *atomic.Int64) bool {
	return !m.allows(own.Load()+1, m.used.Load()+1)
}
