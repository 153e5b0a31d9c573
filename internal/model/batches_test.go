// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"context"
	"slices"
	"time"

	"github.com/udsipc/udsipc"
)

// planBatches decides whether the readers of a schedule have batches, and which.
func (s *schedule) planBatches() {
	if s.plan.batches = s.rng.IntN(2) == 0; !s.plan.batches {
		return
	}
	s.plan.options = []udsipc.ReaderOption{
		udsipc.WithMaxBatch([]int{1, 2, 7, 1000}[s.rng.IntN(4)]),
		udsipc.WithMaxBatchWait([]time.Duration{0, time.Millisecond, time.Second}[s.rng.IntN(3)]),
		udsipc.WithBatchWaitFrom([]int{0, 100}[s.rng.IntN(2)]),
	}
	if s.rng.IntN(2) == 0 {
		s.plan.options = append(s.plan.options, udsipc.WithSharedBatches())
	}
}

func (s *schedule) newReader(life *life, opts ...udsipc.ReaderOption) (*udsipc.Reader, error) {
	if s.plan.batches {
		return udsipc.NewBatchReader(func(ctx context.Context, batch []udsipc.Delivery) error {
			return s.handleBatch(ctx, life, batch)
		}, "memory", opts...)
	}
	return udsipc.NewDeliveryReader(func(ctx context.Context, d *udsipc.Delivery) error {
		return s.handle(ctx, life, d)
	}, "memory", opts...)
}

// handleBatch is a transaction: all messages of the batch are handled, or none.
func (s *schedule) handleBatch(ctx context.Context, life *life, batch []udsipc.Delivery) error {
	for i := range batch {
		if err := s.try(ctx, &batch[i]); err != nil {
			return err
		}
	}
	for i := range batch {
		s.done(life, &batch[i])
	}
	slices.Reverse(batch) // It is the handler's.
	return nil
}
