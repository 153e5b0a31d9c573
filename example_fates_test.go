// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
)

// What no reader takes comes back when the Writer ends: to a file here, for somebody to look at. Package spool keeps
// messages on the disk for the next start.
func ExampleWithUndelivered() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	left, err := os.Create(filepath.Join(dir, "left"))
	if err != nil {
		log.Fatal(err)
	}
	defer left.Close()

	writer, err := udsipc.NewWriter(filepath.Join(dir, "nobody.sock"),
		udsipc.WithCloseTimeout(10*time.Millisecond),
		udsipc.WithUndelivered(func(data []byte) { // Called by Close, for one message after the other.
			if _, err := fmt.Fprintf(left, "%s\n", data); err != nil {
				log.Print(err)
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	for _, event := range []string{"login", "logout"} {
		if err := writer.WriteMessage([]byte(event)); err != nil {
			log.Print(err)
		}
	}
	err = writer.Close()
	fmt.Println("in time:", !errors.Is(err, context.DeadlineExceeded))
	undelivered, err := os.ReadFile(left.Name())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%d undelivered\n", undelivered, writer.Metrics().Undelivered)
	// Output:
	// in time: false
	// login
	// logout
	// 2 undelivered
}

// A message that its handler fails for, again and again, is given up and does not hold up the others for ever.
func ExampleWithDeadLetter() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "jobs.sock")

	reader, err := udsipc.NewReader(func(data []byte) error {
		if string(data) == "divide by 0" {
			return errors.New("impossible")
		}
		fmt.Printf("done: %s\n", data)
		return nil
	}, path, udsipc.WithMaxRedeliveries(1), udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
		fmt.Printf("gave up: %s: %v\n", d.Data, err) // d.Data is valid until this function returns.
	}), udsipc.WithReaderErrorCallback(func(err error, op string) {})) // The failures are reported here as well.
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}
	defer reader.Close()

	writer, err := udsipc.NewWriter(path, udsipc.WithAcknowledgements())
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	for _, job := range []string{"add 1", "divide by 0", "add 2"} {
		if err := writer.WriteMessage([]byte(job)); err != nil {
			log.Print(err)
		}
	}
	if err := writer.Flush(context.Background()); err != nil { // Each is handled, or given up by the Reader.
		log.Print(err)
	}
	fmt.Println(reader.Metrics().DeadLetters, "dead letter")
	// Output:
	// done: add 1
	// gave up: divide by 0: impossible
	// done: add 2
	// 1 dead letter
}
