// SPDX-License-Identifier: Apache-2.0

// Package latency summarizes times. It counts them in classes that are at most a quarter wide, so a
// percentile costs one addition for each time and no memory. It reads no clock.
package latency

import (
	"math/bits"
	"time"
)

// A Summary is a summary of how long something took. Percentiles are exact to a quarter of their value,
// and never below the true one.
type Summary struct {
	Count uint64 // Of the times.
	P50   time.Duration
	P99   time.Duration
	Max   time.Duration

	SumSeconds float64 // Of the times. As a Duration it could overflow: many messages share a time.

	// Buckets counts the times below Bound of the same index. A time is in each bucket that it is below.
	Buckets [Buckets]uint64
}

// Buckets is the number of buckets of a Summary.
const Buckets = 22

// firstBound is the binary logarithm of the first bound, in nanoseconds: 8.192 µs.
const firstBound = 13

// Bound returns the bound of a bucket: 8.192 µs, and twice as much for each further one, up to 17.2 s.
func Bound(bucket int) time.Duration { return 1 << (firstBound + bucket) }

// classBits is the number of bits below the highest one of a time that select its class.
const classBits = 2

// A Histogram counts times. The zero value is empty.
type Histogram struct {
	counts [(64 - classBits) << classBits]uint64
	max    time.Duration
	sum    float64 // In seconds.
}

// timeClass returns the class of d, in nanoseconds.
func timeClass(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<classBits {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - classBits
	return (shift+1)<<classBits | int(n>>shift)&(1<<classBits-1)
}

// classEnd returns the largest time of a class.
func classEnd(class int) time.Duration {
	if class < 1<<classBits {
		return time.Duration(class)
	}
	shift := class>>classBits - 1
	return time.Duration((uint64(1<<classBits|class&(1<<classBits-1))+1)<<shift - 1)
}

// Add counts a time so many times.
func (h *Histogram) Add(d time.Duration, times uint64) {
	h.counts[timeClass(d)] += times
	h.max = max(h.max, d)
	h.sum += max(d, 0).Seconds() * float64(times)
}

// Summary returns the percentiles.
func (h *Histogram) Summary() Summary {
	t := Summary{Max: h.max, SumSeconds: h.sum}
	for class, n := range h.counts {
		t.Count += n
		if bucket := class>>classBits + classBits - firstBound; bucket < Buckets {
			t.Buckets[max(bucket, 0)] += n
		}
	}
	for i := 1; i < Buckets; i++ {
		t.Buckets[i] += t.Buckets[i-1]
	}
	t.P50 = h.percentile(t.Count, 50)
	t.P99 = h.percentile(t.Count, 99)
	return t
}

// percentile returns a time that is not exceeded by percent of all times.
func (h *Histogram) percentile(count, percent uint64) time.Duration {
	var sum uint64
	for class, n := range h.counts {
		if sum += n; sum > 0 && sum*100 >= count*percent {
			return min(classEnd(class), h.max)
		}
	}
	return 0
}
