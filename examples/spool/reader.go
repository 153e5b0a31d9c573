// SPDX-License-Identifier: Apache-2.0

package main

// This file is the reader process.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/udsipc/udsipc"
)

// read stores messages until ctx ends. For each batch it prints how many are new and how many it knew.
func read(ctx context.Context, file, address string, out io.Writer) error {
	s, err := openStore(file, nil)
	if err != nil {
		return err
	}
	r, err := udsipc.NewBatchReader(func(_ context.Context, batch []udsipc.Delivery) error {
		added, known, err := s.add(batch)
		if err != nil {
			return err // The messages come again.
		}
		_, err = fmt.Fprintln(out, added, known)
		return err
	}, address)
	if err != nil {
		return err
	}
	return errors.Join(r.Run(ctx), s.file.Close())
}
