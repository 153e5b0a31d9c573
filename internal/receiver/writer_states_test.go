// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestHandOver_WriterReconnected_RejectsInherited: a connection that an earlier process has left is of no use once its writer has connected again.
func TestHandOver_WriterReconnected_RejectsInherited(t *testing.T) {
	m := newWriterStates(10, time.Hour)
	key := wire.WriterKey{Identity: "uid 0", Writer: wire.WriterID{1}}
	left := wire.WriterSnapshot{Key: key, Epoch: 1, Handled: 5}
	m.restore([]wire.WriterSnapshot{left}, time.Now())
	c, err := m.acquire(key.Identity, wire.Hello{Writer: key.Writer, Epoch: 2, FirstSeq: 6, LastSentSeq: 9}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.release(9, 0)
	if _, err := m.acquireInherited(key, left, func() {}); !errors.Is(err, errdefs.ErrInvalidSession) {
		t.Error(err)
	}
}
