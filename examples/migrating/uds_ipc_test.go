// SPDX-License-Identifier: Apache-2.0

package migrating_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/udsipc/udsipc"
)

// The first program of uds-ipc's README. It needs no pauses: the message waits for the reader, and Stop for
// the message.
func Example_readerAndWriter() {
	ctx, path, remove := place()
	defer remove()

	reader, err := udsipc.NewReader(func(data []byte) error {
		fmt.Printf("Received: %s\n", data)
		return nil
	}, path)
	must(err)
	writer, err := udsipc.NewWriter(path)
	must(err)

	must(reader.Start())
	must(writer.Start()) // There, Start returns nothing.
	must(writer.WriteMessage([]byte("Hello, UDS!")))
	must(writer.WriteMessage([]byte("Another message")))

	must(writer.Stop(ctx)) // The messages are read.
	must(reader.Stop(ctx)) // The messages are handled.
	fmt.Println(reader.GetMetrics())
	// Output:
	// Received: Hello, UDS!
	// Received: Another message
	// 2 1 0
}

// All options of uds-ipc's README.
func Example_options() {
	ctx, path, remove := place()
	defer remove()
	errorHandler := func(err error, op string) { fmt.Println(op, err) }

	received := make(chan int, 1)
	reader, err := udsipc.NewReader(func(data []byte) error { received <- len(data); return nil }, path,
		udsipc.WithMaxMessageSize(1024*1024),         // The Writer has a limit as well: 10 MiB by default.
		udsipc.WithInactivityTimeout(30*time.Second), // 0 is no limit.
		udsipc.WithReadBufferSize(1024*1024),         // Of a read, not SO_RCVBUF.
		udsipc.WithMaxAcceptErrors(10),
		udsipc.WithReaderErrorCallback(errorHandler),
		udsipc.WithSocketMode(0o660), // There: by the umask. The default is 0600.
	)
	must(err)
	must(reader.Start())

	writer, err := udsipc.NewWriter(path,
		udsipc.WithMaxBufferedWrites(100_000),
		udsipc.WithMaxBufferedBytes(128<<20), // Or 64 MiB is the bound.
		udsipc.WithWriteTimeout(5*time.Second),
		udsipc.WithDialTimeout(2*time.Second),
		udsipc.WithMaxBackoff(30*time.Second),
		udsipc.WithWriteBufferSize(1024*1024),
		udsipc.WithWriterErrorCallback(errorHandler),
	)
	must(err)
	must(writer.Start())
	must(writer.WriteMessage(make([]byte, 1<<20)))
	fmt.Println(<-received)
	must(writer.Stop(ctx))
	must(reader.Stop(ctx))
	// Output: 1048576
}

// The deferred Stop(context.Background()) of uds-ipc's README is Close here. There, Stop without a reader drops
// what is queued and returns nil; here Stop waits as long as its context allows, Close for 5 s by default, and
// the messages come back.
func Example_stop() {
	ctx, path, remove := place()
	defer remove()

	writer, err := udsipc.NewWriter(path, udsipc.WithCloseTimeout(10*time.Millisecond),
		udsipc.WithUndelivered(func(data []byte) { fmt.Printf("undelivered: %s\n", data) }))
	must(err)
	defer func() {
		fmt.Println("out of time:", errors.Is(writer.Close(), context.DeadlineExceeded))
		fmt.Println("again:", writer.Stop(ctx))
	}()
	must(writer.Start())
	must(writer.Start()) // Has no effect.
	must(writer.WriteMessage([]byte("nobody listens")))
	// Output:
	// undelivered: nobody listens
	// out of time: true
	// again: <nil>
}

// The errors and the metrics of uds-ipc's README, and how to wait instead of losing a message.
func Example_errors() {
	ctx, path, remove := place()
	defer remove()

	reports := make(chan error, 100)
	writer, err := udsipc.NewWriter(path, udsipc.WithMaxBufferedWrites(2),
		udsipc.WithWriterErrorCallback(func(err error, op string) { // There: named context, as the package is.
			select {
			case reports <- err:
			default:
			}
		}))
	must(err)
	for i := range 3 {
		if err := writer.WriteMessage(fmt.Appendf(nil, "message %d", i)); errors.Is(err, udsipc.ErrBufferFull) {
			fmt.Println("message dropped: the queue is full")
		}
	}
	sent, dropped, failed, queueDepth := writer.GetMetrics()
	fmt.Println(sent, dropped, failed, queueDepth)

	must(writer.Start())
	report := <-reports
	var e *udsipc.OpError // Instead of the text.
	fmt.Println(errors.Is(report, udsipc.ErrNoConsumer), errors.As(report, &e), e.Op == udsipc.OpDial)

	reader, err := udsipc.NewReader(func(data []byte) error { return nil }, path)
	must(err)
	must(reader.Start())
	must(writer.WriteMessageContext(ctx, []byte("waits for space")))
	must(writer.Flush(ctx)) // All of it has been read.
	sent, dropped, failed, queueDepth = writer.GetMetrics()
	fmt.Println(sent, dropped, failed, queueDepth)
	fmt.Println(writer.Stop(ctx))
	must(reader.Stop(ctx))
	// Output:
	// message dropped: the queue is full
	// 0 1 0 2
	// true true true
	// 3 1 0 0
	// <nil>
}

// A handler copies what it keeps, and a producer may reuse what it has written.
func Example_keepData() {
	ctx, path, remove := place()
	defer remove()

	var kept [][]byte
	reader, err := udsipc.NewReader(func(data []byte) error {
		kept = append(kept, slices.Clone(data))
		return nil
	}, path)
	must(err)
	must(reader.Start())
	writer, err := udsipc.NewWriter(path)
	must(err)
	must(writer.Start())

	buffer := make([]byte, 0, 16) // There, each message needs memory of its own.
	for i := range 3 {
		buffer = fmt.Appendf(buffer[:0], "message %d", i)
		must(writer.WriteMessage(buffer))
	}
	must(writer.Stop(ctx))
	must(reader.Stop(ctx))
	fmt.Printf("%s\n", kept)
	// Output: [message 0 message 1 message 2]
}
