// SPDX-License-Identifier: Apache-2.0

package torture_test

// The README of the predecessor, whose examples must go on to compile.

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestCompat_PredecessorExamples_Work(t *testing.T) {
	socketPath := ipctest.SocketPath(t)
	arrived := make(chan string, 2)
	messageHandler := func(data []byte) error {
		arrived <- fmt.Sprintf("Received: %s", data)
		return nil
	}
	errorHandler := func(err error, context string) { log.Printf("%s: %v", context, err) }

	reader, err := udsipc.NewReader(
		messageHandler,
		socketPath,
		udsipc.WithMaxMessageSize(1024*1024),
		udsipc.WithInactivityTimeout(30*time.Second),
		udsipc.WithReadBufferSize(512*1024),
		udsipc.WithReaderErrorCallback(errorHandler),
		udsipc.WithMaxAcceptErrors(10),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Stop(context.Background())

	writer, err := udsipc.NewWriter(
		socketPath,
		udsipc.WithMaxBufferedWrites(50000),
		udsipc.WithWriteTimeout(5*time.Second),
		udsipc.WithDialTimeout(2*time.Second),
		udsipc.WithMaxBackoff(30*time.Second),
		udsipc.WithWriteBufferSize(256*1024),
		udsipc.WithWriterErrorCallback(func(err error, context string) {
			log.Printf("Writer error in %s: %v", context, err)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Stop(context.Background())

	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Start()
	writer.WriteMessage([]byte("Hello, UDS!"))
	writer.WriteMessage([]byte("Another message"))
	for _, want := range []string{"Received: Hello, UDS!", "Received: Another message"} {
		if got := ipctest.Await(t, want, arrived); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	sent, dropped, failed, queueDepth := writer.GetMetrics()
	if dropped > 0 || failed > 0 || sent > 2 || queueDepth > 2 {
		t.Errorf("%d sent, %d dropped, %d failed, %d queued", sent, dropped, failed, queueDepth)
	}
	received, connections, errors := reader.GetMetrics()
	if received != 2 || connections != 1 || errors != 0 {
		t.Errorf("%d received, %d connections, %d errors", received, connections, errors)
	}
}
