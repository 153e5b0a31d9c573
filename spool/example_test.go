// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// A message that was accepted while nobody listened arrives when a reader is there, although the
// process that accepted it has ended.
func Example() {
	base, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir, address := filepath.Join(base, "queue"), filepath.Join(base, "socket")

	first, err := spool.NewWriter(dir, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := first.WriteMessage([]byte("accepted")); err != nil { // It is in the file now.
		log.Fatal(err)
	}
	if err := first.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the spool has", first.Metrics().Queued, "message")

	reader, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		fmt.Printf("message %d: %s\n", d.Seq, d.Data)
		return nil // It leaves the disk of the writer.
	}, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	defer reader.Close()

	second, err := spool.NewWriter(dir, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := second.Start(); err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := second.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the spool has 1 message
	// message 1: accepted
}
