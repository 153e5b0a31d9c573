// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log"
	"os"
	"testing"
	"time"
)

// TestMain is a bridge in a process that the test has started.
func TestMain(m *testing.M) {
	if os.Getenv(bridgeEnvironment) != "" {
		if err := runBridge(); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, 5000); err != nil {
		t.Error(err)
	}
}
