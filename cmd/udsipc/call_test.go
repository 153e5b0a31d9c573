// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// startServer starts a server with methods for the tests, and returns its address.
func startServer(t *testing.T) string {
	t.Helper()
	address := socket(t)
	server, err := rpc.NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	server.Handle("echo", func(_ context.Context, request []byte) ([]byte, error) { return request, nil })
	server.Handle("fail", func(_ context.Context, request []byte) ([]byte, error) {
		var code rpc.Code
		if _, err := fmt.Sscan(string(request), &code); err != nil {
			return nil, err
		}
		return nil, rpc.Errorf(code, "on purpose")
	})
	server.Handle("hang", func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	server.HandleStream("echoes", func(_ context.Context, s *rpc.Stream) error {
		if err := s.Send(s.Request()); err != nil {
			return err
		}
		for message, err := range s.Messages() {
			if err != nil {
				return err
			}
			if string(message) == "fail" {
				return rpc.Errorf(rpc.CodeNotFound, "after a message")
			}
			if err := s.Send(message); err != nil {
				return err
			}
		}
		return nil
	})
	server.HandleStream("forever", func(ctx context.Context, s *rpc.Stream) error {
		_ = s.Send([]byte("first"))
		<-ctx.Done()
		return ctx.Err()
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return address
}

// TestCall_Results_AreWritten: responses and streams on the standard output, errors as codes and texts.
func TestCall_Results_AreWritten(t *testing.T) {
	address := startServer(t)
	for _, test := range []struct {
		stdin, args string
		code        int
		out, errs   string
	}{
		{"", `echo {"a":1}`, exitOK, "{\"a\":1}\n", ""},
		{` [1] `, "echo -", exitOK, " [1] \n", ""},
		{"", "echo", exitOK, "", ""},
		{"\xff", "--raw echo -", exitOK, "\xff", ""},
		{"", "--idempotent echo 1", exitOK, "1\n", ""},
		{"", "echo {", exitUsage, "", "the request is not JSON"},
		{"", "fail 3", 13, "", "udsipc call: not found: on purpose\n"},
		{"", "fail 1", 11, "", "on purpose"},
		{"", "fail 1234", callUserExit, "", "code 1234: on purpose"},
		{"", "nothing", 21, "", `unknown method: "nothing"`},
		{"", "--timeout=10ms hang", 20, "", "deadline exceeded"},
		{"", "--stream echoes 1", exitOK, "1\n", ""},
		{"a\nb", "--stream --input --raw echoes x", exitOK, "\x01x\x01a\x01b", ""},
		{"a\nfail\nb\n", "--stream --input echoes 1", 13, "1\na\n", "not found: after a message"},
		{strings.Repeat("x", 40), "--stream --input --max-message-size=30 echoes 1", exitFailed, "", "line 1 is longer"},
		{"", "--stream nothing", 21, "", "unknown method"},
		{"", "--input echo", exitUsage, "", "--input needs --stream"},
		{"", "--idempotent --stream echo", exitUsage, "", "exclude each other"},
		{"", "--stream --input echoes -", exitUsage, "", "both read the standard input"},
	} {
		got := execute(t, strings.NewReader(test.stdin), append([]string{"call", address}, strings.Fields(test.args)...)...)
		if expect(t, got, test.code, test.errs); got.stdout != test.out && test.code != exitFailed {
			t.Errorf("%s: got %q, want %q", test.args, got.stdout, test.out)
		}
	}
}

// TestCall_NobodyListens_FailsOrWaits: at once, or with --wait when the time is over.
func TestCall_NobodyListens_FailsOrWaits(t *testing.T) {
	expect(t, execute(t, nil, "call", socket(t), "echo"), 17, "unavailable")
	expect(t, execute(t, nil, "call", "--wait", "--timeout=10ms", socket(t), "echo"), 20, "deadline exceeded")
}

// TestCall_Interrupt_CancelsOrEnds: a call is cancelled; a stream ends in order.
func TestCall_Interrupt_CancelsOrEnds(t *testing.T) {
	address := startServer(t)
	stream := start(t, nil, "call", "--stream", address, "forever")
	stream.awaitOutput(t, "first\n")
	expect(t, stream.stop(t), exitOK, "")
	in, out := io.Pipe()
	call := start(t, in, "call", address, "hang", "-")
	_, _ = io.WriteString(out, "1")
	out.Close()
	expect(t, call.stop(t), 19, "canceled")
}

func TestCall_BrokenPipe_IsQuiet(t *testing.T) {
	in, out := io.Pipe()
	in.Close()
	call := startWith(t, &env{stdout: out}, "call", startServer(t), "echo", "1")
	if got := call.wait(t); got.code != exitFailed || got.stderr != "" || !call.env.brokenPipe {
		t.Errorf("got %+v", got)
	}
}

// TestCall_Timeout_ReachesServer: the deadline is that of the handler.
func TestCall_Timeout_ReachesServer(t *testing.T) {
	address := socket(t)
	server, err := rpc.NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	deadline := make(chan bool, 1)
	server.Handle("ask", func(ctx context.Context, _ []byte) ([]byte, error) {
		_, has := ctx.Deadline()
		deadline <- has
		return nil, nil
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	expect(t, execute(t, nil, "call", "--timeout=1h", address, "ask"), exitOK, "")
	if !ipctest.Await(t, "the call", deadline) {
		t.Error("the handler has no deadline")
	}
}

// TestCall_EndlessRequest_IsInterrupted: a call that has not got its request yet ends at the first interrupt.
func TestCall_EndlessRequest_IsInterrupted(t *testing.T) {
	in, out := io.Pipe()
	call := start(t, in, "call", socket(t), "hang", "-")
	_, _ = io.WriteString(out, `{"half`)
	expect(t, call.stop(t), 19, "interrupted before the end of the request")
}

// TestCall_RequestFromInput_HasCodes: what cannot be read is no wrong argument, and neither is what is too large.
func TestCall_RequestFromInput_HasCodes(t *testing.T) {
	address := startServer(t)
	expect(t, execute(t, iotest.ErrReader(errors.New("no disk")), "call", address, "echo", "-"), exitFailed, "no disk")
	expect(t, execute(t, strings.NewReader(`"long request"`), "call", "--max-message-size=8", address, "echo", "-"),
		23, "too large")
	expect(t, execute(t, strings.NewReader("{"), "call", address, "echo", "-"), exitUsage, "not JSON")
}

// TestCall_PipeOfConnection_IsNotOutput: only the standard output ends the program by SIGPIPE.
func TestCall_PipeOfConnection_IsNotOutput(t *testing.T) {
	e := &env{name: "call", stderr: io.Discard}
	code := e.callResult(fmt.Errorf("%w: %w", udsipc.ErrConnectionClosed, syscall.EPIPE))
	if code != 25 || e.brokenPipe {
		t.Errorf("code %d, broken pipe %v", code, e.brokenPipe)
	}
}

// TestCall_SilentServer_EndsInTime: a server that reads nothing does not hold the end of a call.
func TestCall_SilentServer_EndsInTime(t *testing.T) {
	address := socket(t)
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // The connection waits in its backlog.
	request := strings.NewReader(strings.Repeat("x", 4<<20))
	got := execute(t, request, "call", "--raw", "--timeout=50ms", address, "echo", "-")
	expect(t, got, 20, "deadline exceeded")
}
