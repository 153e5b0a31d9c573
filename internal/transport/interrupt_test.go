// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// TestOut_LateInterruption_HidesNoTimeout: the write that was to be interrupted has just ended, or
// ends by itself. The next one that waits for the timeout is reported.
func TestOut_LateInterruption_HidesNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		o := transport.NewOut(near, time.Second)
		defer o.Close()
		read := make(chan struct{})
		go func() { // Ends with its step.
			_, _ = io.ReadFull(far, make([]byte, 3))
			close(read)
		}()
		if n, err := o.Write(bufs("abc")); n != 3 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		<-read
		time.Sleep(time.Second)
		o.InterruptWrite()
		began := time.Now()
		_, err := o.Write(bufs("abc"))
		if took := time.Since(began); took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
		if waited, err := o.AfterTimeout(0, err); !waited || err != nil {
			t.Errorf("a timeout is not reported: %v, %v", waited, err)
		}
	})
}
