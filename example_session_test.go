// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/udsipc/udsipc"
)

// A store stands for a database: what one transaction changes is there whole, or not at all.
type store struct {
	mu      sync.Mutex
	rows    []string
	highest map[udsipc.WriterID]uint64
}

// insert adds a row in a transaction, unless a message with this number was added before.
func (s *store) insert(writer udsipc.WriterID, seq uint64, row string) error {
	s.mu.Lock() // BEGIN
	defer s.mu.Unlock()
	if seq <= s.highest[writer] { // SELECT highest FROM writers WHERE id = writer
		return nil // Handled before the reader was killed.
	}
	s.rows = append(s.rows, row) // INSERT INTO rows
	s.highest[writer] = seq      // UPDATE writers SET highest = seq WHERE id = writer
	return nil                   // COMMIT
}

// What a reader handled just before it was killed comes again. A handler that stores the number of the
// message together with its effect makes that exactly once.
func ExampleDelivery() {
	db := &store{highest: map[udsipc.WriterID]uint64{}}
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "jobs.sock")

	reader, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		return db.insert(d.Writer, d.Seq, string(d.Data)) // An error means: offer it again.
	}, path, udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
		fmt.Printf("gave up on message %d: %v\n", d.Seq, err)
	}))
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
	for _, job := range []string{"resize a.png", "resize b.png"} {
		if err := writer.WriteMessage([]byte(job)); err != nil {
			fmt.Println(err)
		}
	}
	if err := writer.Flush(context.Background()); err != nil { // Waits until both are handled.
		fmt.Println(err)
	}
	fmt.Println(db.rows, writer.Metrics().Acknowledged)

	if err := writer.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	if err := reader.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: [resize a.png resize b.png] 2
}
