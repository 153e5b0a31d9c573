// SPDX-License-Identifier: Apache-2.0

package transport_test

// The messages that a receiving connection finds in what it reads.

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

func TestIn_Messages_AreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 200})
		in.comes(framed("a") + framed("") + framed("bcd") + "\x05ef")
		in.gives("a", "", "bcd")
		if in.Received() != 3 || in.PartialBytes() != 3 || in.WholeMessages() != 0 {
			t.Errorf("%d messages, %d bytes of the next, %d whole", in.Received(), in.PartialBytes(), in.WholeMessages())
		}
		in.looks(512, 7, 10, 0, 6)
		in.comes("ghi" + framed("j") + "\x80")
		if whole := in.WholeMessages(); whole != 2 {
			t.Errorf("%d messages are whole", whole)
		}
		in.gives("efghi", "j")
		in.looks(512, 3+3+2, 3+3+3, 0, 0)
		in.comes("\x01" + strings.Repeat("k", 128))
		in.gives(strings.Repeat("k", 128))
		in.looks(512, 130, 130, 0, 0)
		if in.PartialBytes() != 0 {
			t.Errorf("%d bytes are left", in.PartialBytes())
		}
	})
}

// TestIn_OversizedMessage_IsSkipped, whole or as it comes, and goes on behind it.
func TestIn_OversizedMessage_IsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 5})
		refused := func() {
			t.Helper()
			data, ok, err := in.Next()
			if ok || data != nil || !errors.Is(err, udsipc.ErrMessageTooLarge) ||
				!strings.Contains(err.Error(), "6 bytes, the limit is 5") {
				t.Errorf("%q, %v, %v", data, ok, err)
			}
		}
		in.comes(framed("12345") + framed("123456") + framed("a"))
		if whole := in.WholeMessages(); whole != 3 {
			t.Errorf("%d are whole", whole)
		}
		if data, ok, err := in.Next(); !ok || err != nil || string(data) != "12345" {
			t.Errorf("%q, %v, %v", data, ok, err)
		}
		refused()
		if in.Skipping() != 7 || in.WholeMessages() != 0 {
			t.Errorf("%d bytes to pass over, %d whole", in.Skipping(), in.WholeMessages())
		}
		in.gives("a")
		in.comes("\x06123")
		refused()
		in.gives()
		if in.Skipping() != 3 || in.PartialBytes() != 0 {
			t.Errorf("%d bytes to pass over, %d at hand", in.Skipping(), in.PartialBytes())
		}
		in.comes("45")
		in.gives()
		in.comes("6" + framed("b"))
		in.gives("b")
		if in.Received() != 3 {
			t.Errorf("%d messages", in.Received())
		}
		in.comes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x")
		if _, _, err := in.Next(); !errors.Is(err, udsipc.ErrMessageTooLarge) || in.Skipping() != 1<<64-1 {
			t.Errorf("%d bytes to pass over, %v", in.Skipping(), err)
		}
	})
}

// TestIn_OversizedMessage_ReportsItsHead: a Conn's errors have the beginning of a message that is too large.
func TestIn_OversizedMessage_ReportsItsHead(t *testing.T) {
	for _, size := range []int{6, 31, 32, 33, 100} {
		synctest.Test(t, func(t *testing.T) {
			in := inOf(t, transport.Limits{MaxMessageSize: 5})
			in.KeepOpenIf(nil)
			message := strings.Repeat("0123456789", 10)[:size]
			in.comes(framed(message)[:3])
			in.gives()
			in.looks(512, 0, 3, 0, 1+min(size, 32))
			in.comes(framed(message)[3:])
			_, ok, err := in.Next()
			large := (*errdefs.TooLarge)(nil)
			if ok || !errors.Is(err, udsipc.ErrMessageTooLarge) || !errors.As(err, &large) ||
				large.Size != uint64(size) || large.Limit != 5 ||
				string(large.Head) != message[:min(size, 32)] {
				t.Errorf("%d bytes: %v, %+v", size, err, large)
			}
			in.gives()
			in.comes(framed("12345"))
			in.gives("12345")
		})
	}
}

// TestIn_Halted_ReturnsNothing gives nothing more, though it has come.
func TestIn_Halted_ReturnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(framed("a") + framed("b"))
		if _, ok, _ := in.Next(); !ok {
			t.Error("no message")
		}
		in.Halt()
		in.gives()
		if err := in.Fill(); err != transport.ErrGracefulEnd {
			t.Error(err)
		}
		if !in.IsHalted() {
			t.Error("not halted")
		}
	})
}

// TestIn_NeverRead_UntilBytesCome, unless an earlier process has read from it.
func TestIn_NeverRead_UntilBytesCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if !in.NeverRead() || inOf(t, transport.Limits{Inherited: true}).NeverRead() {
			t.Error("what an earlier process has read is mixed up")
		}
		in.comes("\x05")
		if in.NeverRead() {
			t.Error("it was read")
		}
	})
}

// TestIn_OversizedMessage_IsReportedWithWholeHead, as soon as that is there.
func TestIn_OversizedMessage_IsReportedWithWholeHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{31, 32, 33} {
			in := inOf(t, transport.Limits{MaxMessageSize: 5})
			in.KeepOpenIf(nil)
			in.comes(framed(strings.Repeat("x", 100))[:1+size])
			if size < 32 {
				in.gives()
				continue
			}
			large := (*errdefs.TooLarge)(nil)
			if _, _, err := in.Next(); !errors.As(err, &large) || len(large.Head) != 32 {
				t.Errorf("%d bytes: %v, %+v", size, err, large)
			}
			in.gives()
			if in.Skipping() != uint64(100-size) || in.PartialBytes() != 0 {
				t.Errorf("%d bytes: %d to skip, %d at hand", size, in.Skipping(), in.PartialBytes())
			}
		}
	})
}
