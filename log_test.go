// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
)

func TestWithLogger_Nil_IsAnError(t *testing.T) {
	handle := func([]byte) error { return nil }
	_, writerErr := udsipc.NewWriter("/run/app.sock", udsipc.WithLogger(nil))
	_, readerErr := udsipc.NewReader(handle, "/run/app.sock", udsipc.WithLogger(nil))
	for _, err := range []error{writerErr, readerErr} {
		if err == nil || !strings.Contains(err.Error(), "WithLogger(nil)") {
			t.Errorf("the error is %v, want one that names WithLogger(nil)", err)
		}
	}
}
