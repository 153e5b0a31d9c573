// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"syscall"
	"testing"
)

// TestWaitForDescriptor_LastConnEnded_TriesOnceMore: the last connection may end between a failed
// attempt and the look at the connections. Its descriptor is free then, and the backlog is still to
// be served.
func TestWaitForDescriptor_LastConnEnded_TriesOnceMore(t *testing.T) {
	s := New(Config{Message: func([]byte) error { return nil }})
	s.acceptor.halfClosed = true
	for i, want := range []bool{true, false, false} {
		if again := s.acceptor.waitForDescriptor(syscall.EMFILE); again != want {
			t.Errorf("attempt %d: again is %v, want %v", i+1, again, want)
		}
	}
	s.conns.all[&connection{}] = struct{}{}
	if !s.acceptor.waitForDescriptor(syscall.EMFILE) {
		t.Error("it does not wait for the connection")
	}
	clear(s.conns.all)
	if !s.acceptor.waitForDescriptor(syscall.EMFILE) {
		t.Error("the connection has ended, and nothing was tried since")
	}
	if s.acceptor.waitForDescriptor(syscall.EPERM) {
		t.Error("it waits after an error that stays")
	}
}
