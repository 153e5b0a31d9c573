// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"context"
	"fmt"
	"maps"
)

// WorkersEnd says whether the workers end, as they do after a Stop.
func WorkersEnd(s *Server) bool { return s.stopped.Load() }

// CheckParsers reads b as each kind of message, writes what was read, and says if that reads differently.
func CheckParsers(b []byte) string {
	if q, err := parseRequest(b); err == nil {
		again, err := parseRequest(q.append(nil, string(q.method), string(q.metadata), q.data))
		if err != nil || again.id != q.id || again.timeout != q.timeout ||
			!bytes.Equal(again.method, q.method) || !bytes.Equal(again.data, q.data) {
			return fmt.Sprintf("request %+v, again %+v, %v", q, again, err)
		}
	}
	if method, data, err := parseNotification(b); err == nil {
		m, d, err := parseNotification(appendNotification(nil, string(method), data))
		if err != nil || !bytes.Equal(m, method) || !bytes.Equal(d, data) {
			return fmt.Sprintf("notification %q, %v", method, err)
		}
	}
	if m, bad := parseMetadata(b); bad == nil {
		encoded := outgoingOf(WithMetadata(context.Background(), m)).encoded
		again, bad := parseMetadata([]byte(encoded))
		if bad != nil || len(m) > maxMetadataValues || !maps.Equal(m, again) {
			return fmt.Sprintf("metadata %q, again %q, %v", m, again, bad)
		}
	}
	if id, rest, err := parseID(b); err == nil {
		e := parseError(rest)
		other, rest, err := parseID(appendError(nil, id, e))
		if again := parseError(rest); err != nil || other != id || *again != *e {
			return fmt.Sprintf("error %+v, again %+v, %v", e, again, err)
		}
	}
	if cost, ok := windowCost(b, window); ok && cost < window/2 {
		s := newStream(1, nil, output{}, 1<<20, 0)
		if _, err := s.onMessage(typeData, b, nil); err != nil {
			return err.Error()
		}
		s.onMessage(typeEnd, nil, nil)
		n := 0
		for {
			data, err := s.Receive()
			if err != nil {
				break
			}
			n += len(data)
		}
		if n > len(b) {
			return fmt.Sprintf("%d bytes of messages", n)
		}
	}
	return ""
}

// PendingCalls returns the number of calls and streams in flight.
func PendingCalls(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// IsAdmitted reports whether a call is registered that has seen a connection before between is called.
func IsAdmitted(c *Client, between func()) bool {
	p := &pendingCall{disconnects: c.disconnects.Load()}
	between()
	id, next, err := c.register(p)
	if next != nil || err != nil {
		return false
	}
	c.removeCall(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doneEnqueueingLocked()
	return true
}
