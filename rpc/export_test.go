// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"fmt"
)

// CheckParsers reads b as each kind of message, writes what was read, and says if that reads differently.
func CheckParsers(b []byte) string {
	if q, err := parseRequest(b); err == nil {
		again, err := parseRequest(q.append(nil, string(q.method), q.data))
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

// CheckCallQueue does what ops say with a queue: it adds a call for an even number, and else takes one.
// It returns what differs from a slice, and how often a goroutine was to be woken while none was.
func CheckCallQueue(ops []int) (differs string, wakes int) {
	var q callQueue
	var want []*call
	for i, op := range ops {
		if op%2 == 0 {
			c := &call{id: uint64(i)}
			q.push(c)
			want = append(want, c)
		} else if c := q.pop(); len(want) > 0 {
			if c != want[0] {
				return fmt.Sprintf("step %d: call %v, want %v", i, c, want[0]), wakes
			}
			want = want[1:]
		} else if c != nil {
			return fmt.Sprintf("step %d: call %v of an empty queue", i, c), wakes
		}
		if q.size() != len(want) {
			return fmt.Sprintf("step %d: size %d, want %d", i, q.size(), len(want)), wakes
		}
		if q.wakes() {
			wakes++
		}
		if q.size() > 0 && !q.waking {
			return fmt.Sprintf("step %d: nobody is woken for %d calls", i, q.size()), wakes
		}
	}
	return "", wakes
}
