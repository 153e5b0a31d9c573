// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }
