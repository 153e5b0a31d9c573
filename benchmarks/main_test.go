// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
)

func BenchmarkStream(b *testing.B) {
	for _, size := range sizes {
		for _, name := range streamers {
			b.Run(size.name+"/"+name, func(b *testing.B) { stream(b, name, size.bytes) })
		}
	}
}

// TestContenders_Call_ReturnsResponse shows that every contender answers each call with what it was
// asked.
func TestContenders_Call_ReturnsResponse(t *testing.T) {
	for _, c := range callers {
		t.Run(c.name, func(t *testing.T) {
			call := c.open(t)
			for n := range 100 {
				request := bytes.Repeat([]byte{byte(n)}, 1+n*10)
				if response, err := call(request); err != nil || !bytes.Equal(response, request) {
					t.Fatalf("call %d: %d bytes, %v", n, len(response), err)
				}
			}
		})
	}
}

func BenchmarkCall(b *testing.B) {
	for _, size := range sizes[:2] {
		for _, c := range callers {
			b.Run(size.name+"/"+c.name, func(b *testing.B) { atOnce(b, c, size.bytes, 1) })
		}
	}
}
