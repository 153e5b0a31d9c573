// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// A database stands for yours: what one transaction changes is there whole, or not at all.
type database struct {
	mu   sync.Mutex
	rows []string
	last map[udsipc.WriterID]uint64
}

// handle stores a message together with its number. A message that comes again is skipped.
func (db *database) handle(_ context.Context, d *udsipc.Delivery) error {
	db.mu.Lock() // BEGIN
	defer db.mu.Unlock()
	if d.Seq <= db.last[d.Writer] { // SELECT seq FROM writers WHERE id = …
		return nil
	}
	db.rows = append(db.rows, string(d.Data)) // INSERT INTO rows …
	db.last[d.Writer] = d.Seq                 // INSERT OR REPLACE INTO writers …
	return nil                                // COMMIT
}

// A Writer accepts messages while nobody reads. Another process goes on with what it has left, and the
// reader handles each message once.
func ExampleWriter() {
	base, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir, address := filepath.Join(base, "spool"), filepath.Join(base, "s")

	// One process writes. There is no reader, and the process ends.
	writer, err := spool.NewWriter(dir, address)
	if err != nil {
		log.Fatal(err)
	}
	for _, order := range []string{"two coffees", "one tea"} {
		if err := writer.WriteMessage([]byte(order)); err != nil { // nil: it survives this process.
			log.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(writer.Metrics().Queued, "stay on the disk")

	// Another process reads.
	db := &database{last: map[udsipc.WriterID]uint64{}}
	reader, err := udsipc.NewDeliveryReader(db.handle, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	defer reader.Close()

	// The next process of the writer goes on.
	writer, err = spool.NewWriter(dir, address)
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	if err := writer.WriteMessage([]byte("the bill")); err != nil {
		log.Fatal(err)
	}
	if err := writer.Close(); err != nil { // The reader is there, so it sends all of them.
		log.Fatal(err)
	}
	fmt.Println(writer.Metrics().Found, "found,", writer.Metrics().Sent, "sent:", db.rows)
	// Output:
	// 2 stay on the disk
	// 2 found, 3 sent: [two coffees one tea the bill]
}
