// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"testing"
)

// TestStream_FinishAfterLoss_ReportsLossFirst: the client must not take the error of a handler for the end of a stream
// whose messages it has all received, if some of them could not be sent.
func TestStream_FinishAfterLoss_ReportsLossFirst(t *testing.T) {
	own := &Error{Code: CodeFirstUser, Message: "of the handler"}
	for name, test := range map[string]struct {
		sendErr error
		failed  *Error
		want    Code
	}{
		"lost, the handler failed":   {errClientNotReading, own, CodeResourceExhausted},
		"lost, the handler returned": {errClientNotReading, nil, CodeResourceExhausted},
		"sent, the handler failed":   {nil, own, CodeFirstUser},
	} {
		t.Run(name, func(t *testing.T) {
			data := func([]byte) error { return test.sendErr }
			s := newStream(1, context.Background(), output{data: data, end: data, credit: data}, 1<<20, window)
			if err := s.Send([]byte("message")); err != nil {
				t.Fatal(err)
			}
			if ended, cause := s.finish(test.failed); ended || cause == nil || cause.Code != test.want {
				t.Errorf("finish returns %v, %v; want code %v", ended, cause, test.want)
			}
		})
	}
}
