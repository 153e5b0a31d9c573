// SPDX-License-Identifier: Apache-2.0

package failures_test

import (
	"context"
	"log"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/failures"
)

// A worker whose failures JetStream learns of. It gets its messages from a bridge, and reports the failed ones to
// it; each comes again after a pause.
func Example() {
	reporter, err := failures.NewReporter("/run/udsipc-nats/failures.sock")
	if err != nil {
		log.Fatal(err)
	}
	work := func(data []byte) error {
		log.Printf("%s", data)
		return nil
	}
	reader, err := udsipc.NewReader(work, "/run/worker/worker.sock",
		udsipc.WithMaxRedeliveries(0),          // JetStream sends it again, later and perhaps elsewhere.
		udsipc.WithDeadLetter(reporter.Report)) // Returns when the bridge knows.
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Run(context.Background()); err != nil {
		log.Print(err)
	}
	if err := reporter.Close(); err != nil {
		log.Print(err)
	}
}
