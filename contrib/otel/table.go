// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file turns snapshots into observations, by a table.

import (
	"errors"
	"time"

	"github.com/udsipc/udsipc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// A table has the metrics of a type of snapshot. It does not change after create.
type table[M any] struct {
	rows       []row[M]
	histograms []histogram[M]
}

// The instruments of a row.
type instrument int

const (
	asCounter instrument = iota // It only grows.
	asSum                       // It goes up and down; the sum over sources means something.
	asAge                       // A time in seconds.
)

// A row is a metric, or one of those that differ in an attribute.
type row[M any] struct {
	name, unit, text string
	as               instrument
	reason           string                 // The value of this attribute, if not empty.
	count            func(m *M) int64       // nil for asAge.
	age              func(m *M) float64     // Else nil.
	ints             metric.Int64Observable // Set by create, as the next.
	floats           metric.Float64Observable
}

// A histogram is made of a udsipc.LatencySummary.
type histogram[M any] struct {
	name, unit, text string
	value            func(m *M) udsipc.LatencySummary
}

// A part is a counter of several with the same name, which the attribute reason tells apart.
type part[M any] struct {
	reason string
	value  func(m *M) uint64
}

func (t *table[M]) counter(name, unit, text string, value func(m *M) uint64) {
	t.counters(name, unit, text, part[M]{"", value})
}

func (t *table[M]) counters(name, unit, text string, parts ...part[M]) {
	for _, p := range parts {
		t.rows = append(t.rows, row[M]{name: name, unit: unit, text: text, as: asCounter, reason: p.reason,
			count: func(m *M) int64 { return int64(p.value(m)) }})
	}
}

func (t *table[M]) sum(name, unit, text string, value func(m *M) int64) {
	t.rows = append(t.rows, row[M]{name: name, unit: unit, text: text, as: asSum, count: value})
}

func (t *table[M]) age(name, unit, text string, value func(m *M) time.Duration) {
	t.rows = append(t.rows, row[M]{name: name, unit: unit, text: text, as: asAge,
		age: func(m *M) float64 { return value(m).Seconds() }})
}

func (t *table[M]) latency(name, unit, text string, value func(m *M) udsipc.LatencySummary) {
	t.histograms = append(t.histograms, histogram[M]{name, unit, text, value})
}

// create creates the instruments, and returns them. Those of the same name are one.
func (t *table[M]) create(meter metric.Meter) (all []metric.Observable, err error) {
	for i := range t.rows {
		r := &t.rows[i]
		if i > 0 && r.name == t.rows[i-1].name {
			r.ints = t.rows[i-1].ints
			continue
		}
		name, unit, text := "udsipc."+r.name, metric.WithUnit(r.unit), metric.WithDescription(r.text)
		var failed error
		switch r.as {
		case asCounter:
			r.ints, failed = meter.Int64ObservableCounter(name, unit, text)
		case asSum:
			r.ints, failed = meter.Int64ObservableUpDownCounter(name, unit, text)
		case asAge:
			r.floats, failed = meter.Float64ObservableGauge(name, unit, text)
			all = append(all, r.floats)
		}
		if r.ints != nil {
			all = append(all, r.ints)
		}
		err = errors.Join(err, failed)
	}
	return all, err
}

// observe observes a snapshot.
func (t *table[M]) observe(o metric.Observer, m M, attributes []attribute.KeyValue) {
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	for _, r := range t.rows {
		switch {
		case r.as == asAge:
			o.ObserveFloat64(r.floats, r.age(&m), set)
		case r.reason != "":
			o.ObserveInt64(r.ints, r.count(&m), set, metric.WithAttributes(attribute.String("reason", r.reason)))
		default:
			o.ObserveInt64(r.ints, r.count(&m), set)
		}
	}
}

// truth is 1 for true.
func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
