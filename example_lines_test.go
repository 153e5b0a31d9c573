// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
)

// A logger that writes to a Writer. zap takes zapcore.AddSync(writer.Lines()), zerolog zerolog.New(writer.Lines()),
// and log/slog has the package sloghandler.
func ExampleWriter_Lines() {
	dir, err := os.MkdirTemp("", "udsipc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "log.sock")
	reader, err := udsipc.NewReader(func(line []byte) error {
		fmt.Printf("%s\n", line)
		return nil
	}, socket)
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		log.Fatal(err)
	}

	writer, err := udsipc.NewWriter(socket)
	if err != nil {
		log.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		log.Fatal(err)
	}
	logger := log.New(writer.Lines(), "app: ", log.Lmsgprefix)
	logger.Print("started")
	logger.Printf("%d requests", 3)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := writer.Stop(ctx); err != nil {
		log.Print(err)
	}
	if err := reader.Stop(ctx); err != nil {
		log.Print(err)
	}
	fmt.Println("dropped:", writer.Metrics().Refused)
	// Output:
	// app: started
	// app: 3 requests
	// dropped: 0
}
