// SPDX-License-Identifier: Apache-2.0

package transport_test

// The counters of a receiving connection.

import (
	"testing"

	"github.com/udsipc/udsipc/internal/transport"
)

// TestReadCounts_Add_SumsEach each to its own.
func TestReadCounts_Add_SumsEach(t *testing.T) {
	got := transport.ReadCounts{Received: 1, ReceivedBytes: 2, Reads: 3, Acknowledged: 4}
	got.Add(transport.ReadCounts{Received: 10, ReceivedBytes: 20, Reads: 30, Acknowledged: 40})
	if want := (transport.ReadCounts{Received: 11, ReceivedBytes: 22, Reads: 33, Acknowledged: 44}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
