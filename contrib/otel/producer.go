// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file has the histograms that the library counts itself.

import (
	"context"
	"errors"
	"time"

	"github.com/udsipc/udsipc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Producer returns what gives a reader of the SDK (metric.WithProducer) the histograms that the library counts itself:
// delivery times of Writers and spools, and sync times of spools. No asynchronous instrument can observe those. Their
// temporality is cumulative.
func (m *Metrics) Producer() metric.Producer { return producer{m} }

type producer struct{ metrics *Metrics }

// Produce implements metric.Producer.
func (p producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	byName := map[string]int{}
	var all []metricdata.Metrics
	var errs []error
	now := time.Now()
	for _, s := range p.metrics.snapshot() {
		if s.histograms == nil {
			continue
		}
		var own []metricdata.Metrics
		errs = append(errs, s.safely(func() { own = s.histograms(s.attributes(), now) }))
		for _, h := range own {
			i, known := byName[h.Name]
			if !known {
				byName[h.Name] = len(all)
				all = append(all, h)
				continue
			}
			data := all[i].Data.(metricdata.Histogram[float64])
			data.DataPoints = append(data.DataPoints, h.Data.(metricdata.Histogram[float64]).DataPoints...)
			all[i].Data = data
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: all}}, errors.Join(errs...)
}

// produce returns the histograms of a snapshot.
func (t *table[M]) produce(m M, attributes []attribute.KeyValue, began, now time.Time) (all []metricdata.Metrics) {
	for _, h := range t.histograms {
		point := dataPoint(h.value(&m))
		point.Attributes, point.StartTime, point.Time = attribute.NewSet(attributes...), began, now
		all = append(all, metricdata.Metrics{
			Name: "udsipc." + h.name, Unit: h.unit, Description: h.text,
			Data: metricdata.Histogram[float64]{
				Temporality: metricdata.CumulativeTemporality, DataPoints: []metricdata.HistogramDataPoint[float64]{point},
			},
		})
	}
	return all
}

// dataPoint turns the cumulative buckets of a summary into those between the bounds.
func dataPoint(s udsipc.LatencySummary) (p metricdata.HistogramDataPoint[float64]) {
	p.Count, p.Sum = s.Count, s.SumSeconds
	below := uint64(0)
	for i, n := range s.Buckets {
		p.Bounds = append(p.Bounds, udsipc.LatencyBound(i).Seconds())
		p.BucketCounts = append(p.BucketCounts, n-below)
		below = n
	}
	p.BucketCounts = append(p.BucketCounts, s.Count-below)
	if s.Count > 0 {
		p.Max = metricdata.NewExtrema(s.Max.Seconds())
	}
	return p
}
