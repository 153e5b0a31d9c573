// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/bits"
)

// A histogram counts durations in nanoseconds. Each power of two has 128 buckets, so a quantile is
// exact to 1 %, and adding takes constant time and memory.
type histogram struct {
	counts [57 << 7]uint32
	total  uint64
}

const (
	bucketBits = 7
	buckets    = 1 << bucketBits
)

// add counts a duration. A negative one counts as 0.
func (h *histogram) add(ns int64) {
	value := uint64(max(ns, 0))
	shift := max(0, bits.Len64(value)-bucketBits-1)
	h.counts[shift<<bucketBits+int(value>>shift)]++
	h.total++
}

// quantile returns the smallest duration that a share q of all durations does not exceed, or 0
// without any.
func (h *histogram) quantile(q float64) float64 {
	rank := max(1, uint64(math.Ceil(q*float64(h.total))))
	var seen uint64
	for i, count := range h.counts {
		if seen += uint64(count); seen >= rank {
			shift := max(0, i>>bucketBits-1)
			return float64(uint64(i-shift<<bucketBits) << shift)
		}
	}
	return 0
}
