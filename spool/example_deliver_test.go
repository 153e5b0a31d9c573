// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc/spool"
)

// A collector adopts the spools that others have left. Each has a directory of its own.
func ExampleDeliver() {
	dirs, err := filepath.Glob("/var/lib/jobs/*/spool")
	if err != nil {
		log.Fatal(err)
	}
	for _, dir := range dirs {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := spool.Deliver(ctx, dir, "/run/app/collector.sock")
		cancel()
		switch {
		case err == nil: // All is handled.
		case errors.Is(err, spool.ErrSpoolInUse): // Its owner lives, and delivers.
		case errors.Is(err, spool.ErrLeft):
			log.Printf("next time: %v", err)
		default: // ErrNotDelivered: messages are damaged, have expired, or were refused by the reader.
			log.Print(err)
		}
	}
	fmt.Println(len(dirs), "spools")
	// Output: 0 spools
}
