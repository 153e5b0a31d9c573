// SPDX-License-Identifier: Apache-2.0

package udsipcprom

// This file turns a snapshot into metrics, by a table.

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/udsipc/udsipc"
)

// A table has the metrics of a type of snapshot. It does not change.
type table[M any] struct {
	rows       []row[M]
	histograms []histogram[M]
}

// A row is a metric, or one of those that differ in a label.
type row[M any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string // The value of the label beside kind and name, if there is one.
	value func(m *M) float64
}

// A histogram is made of a udsipc.LatencySummary.
type histogram[M any] struct {
	desc  *prometheus.Desc
	value func(m *M) udsipc.LatencySummary
}

// desc returns the description of a metric with the labels of all sources, and these.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("udsipc_"+name, help, append([]string{"kind", "name"}, labels...), nil)
}

// counter adds a counter.
func (t *table[M]) counter(name, help string, value func(m *M) uint64) {
	t.rows = append(t.rows, row[M]{desc(name, help), prometheus.CounterValue, nil, func(m *M) float64 {
		return float64(value(m))
	}})
}

// A part is a counter of several with the same name, which the label reason tells apart.
type part[M any] struct {
	reason string
	value  func(m *M) uint64
}

// counters adds counters with the label reason.
func (t *table[M]) counters(name, help string, parts ...part[M]) {
	d := desc(name, help, "reason")
	for _, p := range parts {
		t.rows = append(t.rows, row[M]{d, prometheus.CounterValue, []string{p.reason}, func(m *M) float64 {
			return float64(p.value(m))
		}})
	}
}

// gauge adds a gauge.
func (t *table[M]) gauge(name, help string, value func(m *M) float64) {
	t.rows = append(t.rows, row[M]{desc(name, help), prometheus.GaugeValue, nil, value})
}

// latency adds a histogram.
func (t *table[M]) latency(name, help string, value func(m *M) udsipc.LatencySummary) {
	t.histograms = append(t.histograms, histogram[M]{desc(name, help), value})
}

func (t *table[M]) describe(ch chan<- *prometheus.Desc) {
	var last *prometheus.Desc
	for _, r := range t.rows {
		if r.desc != last {
			ch <- r.desc
		}
		last = r.desc
	}
	for _, h := range t.histograms {
		ch <- h.desc
	}
}

func (t *table[M]) collect(ch chan<- prometheus.Metric, m M, kind, name string) {
	for _, r := range t.rows {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(&m), append([]string{kind, name}, r.label...)...)
	}
	for _, h := range t.histograms {
		s := h.value(&m)
		buckets := make(map[float64]uint64, len(s.Buckets))
		for i, n := range s.Buckets {
			buckets[udsipc.LatencyBound(i).Seconds()] = n
		}
		ch <- prometheus.MustNewConstHistogram(h.desc, s.Count, s.SumSeconds, buckets, kind, name)
	}
}

// seconds is a duration in Prometheus' unit.
func seconds(d time.Duration) float64 { return d.Seconds() }

// truth is 1 for true.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
