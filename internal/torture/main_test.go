// SPDX-License-Identifier: Apache-2.0

// Package torture_test runs Writers and Readers as real processes, which are killed, stopped and restarted at random.
package torture_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }
