// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/publish"
)

// TestPublication_NoSnapshot_IsReportedOnce: of what is no metric. The report may stop what publishes.
func TestPublication_NoSnapshot_IsReportedOnce(t *testing.T) {
	for name, metrics := range map[string]any{
		"NaN": math.NaN(), "infinite": map[string]any{"a": math.Inf(1)}, "no object": 7,
		"a negative fraction": map[string]any{"sum": -0.5}, "too large": manyMetrics(),
	} {
		t.Run(name, func(t *testing.T) {
			folder := private(t)
			stopped := make(chan struct{}, 10)
			var p *publish.Publication
			p = publish.New(publish.Config{
				Name: "x", Kind: "writer", Snapshot: func() any { return metrics }, Report: func(error) {
					p.Stop()
					stopped <- struct{}{}
				},
			})
			p.Start()
			client := dial(t, only(t, folder))
			if s, err := client.Next(patience); err == nil {
				t.Errorf("a snapshot: %+v", s)
			}
			select {
			case <-stopped:
			case <-time.After(patience):
				t.Fatal("Stop waits for the report that calls it")
			}
		})
	}
}

// manyMetrics returns more than a snapshot can have.
func manyMetrics() map[string]int {
	m := map[string]int{}
	for i := range publish.MaxLine / 10 {
		m[fmt.Sprintf("m%09d", i)] = i
	}
	return m
}
