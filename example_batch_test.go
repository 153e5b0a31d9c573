// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/udsipc/udsipc"
)

// A handler that writes into a database gets a batch for each transaction. examples/sqlite is a program
// that does so with a real one. Here a store in memory stands for it.
func ExampleNewBatchReader() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "events.sock")

	rows := map[string]bool{} // By writer and number: a message that comes again changes nothing.
	reader, err := udsipc.NewBatchReader(func(_ context.Context, batch []udsipc.Delivery) error {
		for _, d := range batch { // BEGIN
			rows[fmt.Sprint(d.Writer, d.Seq)] = true // INSERT … ON CONFLICT DO NOTHING
		}
		return nil // COMMIT. An error means ROLLBACK, and the batch comes again.
	}, path, udsipc.WithMaxBatch(500), udsipc.WithSharedBatches())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := reader.Start(); err != nil {
		fmt.Println(err)
		return
	}

	writer, err := udsipc.NewWriter(path, udsipc.WithAcknowledgements())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := writer.Start(); err != nil {
		fmt.Println(err)
		return
	}
	for n := range 1000 {
		if err := writer.WriteMessage(fmt.Appendf(nil, "event %d", n)); err != nil {
			fmt.Println(err)
		}
	}
	ctx := context.Background()
	if err := writer.Stop(ctx); err != nil { // All of them are acknowledged then.
		fmt.Println(err)
	}
	if err := reader.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(rows), "rows")
	// Output: 1000 rows
}
