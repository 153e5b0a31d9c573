// SPDX-License-Identifier: Apache-2.0

// Package model_test runs Writers and Readers through random schedules of faults, and checks that no message is lost in
// silence, repeated without a mark, or reordered. It also breaks the code in known ways, which a model must notice.
package model_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }
