// SPDX-License-Identifier: Apache-2.0

package latency_test

import (
	"cmp"
	"math"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/latency"
)

// summaryOf returns count, percentiles and maximum of these times.
func summaryOf(times []time.Duration) latency.Summary {
	var h latency.Histogram
	for _, d := range times {
		h.Add(d, 1)
	}
	s := h.Summary()
	s.SumSeconds, s.Buckets = 0, [latency.Buckets]uint64{}
	return s
}

// TestHistogram_Buckets_CountTimesBelowTheirBounds: each bucket has the times below its bound, and none other.
func TestHistogram_Buckets_CountTimesBelowTheirBounds(t *testing.T) {
	if first, last := latency.Bound(0), latency.Bound(latency.Buckets-1); first != 8192*time.Nanosecond || last != 1<<34 {
		t.Errorf("the bounds are %v to %v", first, last)
	}
	for bucket := range latency.Buckets {
		bound := latency.Bound(bucket)
		var h latency.Histogram
		h.Add(bound-1, 3)
		h.Add(bound, 4)
		h.Add(0, 2)
		h.Add(-time.Hour, 1)
		h.Add(math.MaxInt64, 5)
		got := h.Summary()
		for i, n := range got.Buckets {
			if want := []uint64{3, 6, 10}[1+cmp.Compare(i, bucket)]; n != want {
				t.Errorf("bucket %d has %d times around %v, want %d", i, n, bound, want)
			}
		}
		want := 3*(bound-1).Seconds() + 4*bound.Seconds() + 5*time.Duration(math.MaxInt64).Seconds()
		if math.Abs(got.SumSeconds-want) > want*1e-9 || got.Count != 15 {
			t.Errorf("%d times of %g s, want 15 of %g", got.Count, got.SumSeconds, want)
		}
	}
}

// TestHistogram_Percentiles_AreWithinAQuarter are never below the true ones, and exact to a quarter.
func TestHistogram_Percentiles_AreWithinAQuarter(t *testing.T) {
	var times []time.Duration
	for n := range 1000 {
		times = append(times, time.Duration(n+1)*time.Microsecond)
	}
	got := summaryOf(times)
	if got.Count != 1000 || got.Max != time.Millisecond {
		t.Errorf("%+v", got)
	}
	if p50 := 500 * time.Microsecond; got.P50 < p50 || got.P50 > p50*5/4 {
		t.Errorf("p50 is %v", got.P50)
	}
	if p99 := 990 * time.Microsecond; got.P99 < p99 || got.P99 > p99*5/4 {
		t.Errorf("p99 is %v", got.P99)
	}
	for _, d := range []time.Duration{0, 1, 2, 3, 4, 5, 7, 8, 1 << 20, 1<<20 - 1, math.MaxInt64} {
		if got := summaryOf([]time.Duration{d, d}); got.P50 != d || got.P99 != d || got.Max != d {
			t.Errorf("%v twice is %+v", d, got)
		}
	}
	if got := summaryOf(nil); got != (latency.Summary{}) {
		t.Errorf("nothing is %+v", got)
	}
}

// TestHistogram_ClassBounds_AreExact: a percentile is the end of the class that its time lies in, or the largest time.
func TestHistogram_ClassBounds_AreExact(t *testing.T) {
	const large = time.Duration(math.MaxInt64)
	for _, test := range []struct{ time, end time.Duration }{
		{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 9}, {9, 9}, {10, 11},
		{11, 11}, {12, 13}, {14, 15}, {15, 15},
		{16, 19}, {19, 19}, {20, 23}, {24, 27}, {28, 31}, {31, 31}, {32, 39}, {1000, 1023},
		{1024, 1279}, {1279, 1279}, {1280, 1535},
		{1 << 40, 5<<38 - 1}, {1<<41 - 1, 1<<41 - 1}, {1 << 62, 5<<60 - 1}, {-5, 0}, {math.MinInt64, 0},
	} {
		got := summaryOf([]time.Duration{test.time, test.time, large})
		if want := (latency.Summary{Count: 3, P50: test.end, P99: large, Max: large}); got != want {
			t.Errorf("%d: %+v, want %+v", test.time, got, want)
		}
	}
}

// TestHistogram_Count_IsExact: the half of the times do not exceed the one, 99 of 100 not the other.
func TestHistogram_Count_IsExact(t *testing.T) {
	for _, test := range []struct{ low, high int }{
		{1, 1}, {49, 51}, {50, 50}, {51, 49}, {98, 2}, {99, 1}, {100, 0}, {0, 100}, {198, 2},
		{197, 3},
	} {
		var all []time.Duration
		for range test.low {
			all = append(all, 1)
		}
		for range test.high {
			all = append(all, 7)
		}
		want := latency.Summary{Count: uint64(len(all)), P50: 7, P99: 7, Max: 7}
		if test.high == 0 {
			want.Max = 1
		}
		if 2*test.low >= len(all) {
			want.P50 = 1
		}
		if 100*test.low >= 99*len(all) {
			want.P99 = 1
		}
		if got := summaryOf(all); got != want {
			t.Errorf("%d and %d: %+v, want %+v", test.low, test.high, got, want)
		}
	}
}
