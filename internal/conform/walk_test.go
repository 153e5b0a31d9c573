// SPDX-License-Identifier: Apache-2.0

package conform_test

// This file plays the walk of docs/CLIENTS.md against a Reader.

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var comment = regexp.MustCompile(` {3,}.*`)

func TestDocs_Walk_IsTrue(t *testing.T) {
	page, err := os.ReadFile("../../docs/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	path := ipctest.SocketPath(t)
	handled := make(chan string, 10)
	ipctest.StartReader(t, func(data []byte) error { handled <- string(data); return nil }, path,
		udsipc.WithReaderErrorCallback(func(error, string) {}))
	var conn net.Conn
	lines := 0
	for _, block := range strings.Split(string(page), "```walk\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			lines++
			step := comment.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")
			switch {
			case step == "connect":
				conn = ipctest.MustDial(t, path)
			case step == "> end":
				_ = conn.(*net.UnixConn).CloseWrite()
			case step == "cut":
				conn.Close()
			case step == "< end":
				expectBytes(t, step, conn, nil)
			case strings.HasPrefix(step, "> "):
				ipctest.MustWrite(t, conn, unhex(t, step))
			case strings.HasPrefix(step, "< "):
				expectBytes(t, step, conn, unhex(t, step))
			default:
				t.Fatalf("the line %q", line)
			}
		}
	}
	if lines < 30 {
		t.Errorf("%d lines", lines)
	}
	for _, want := range []string{"hello", "", "hello", "hi", "bye", "ok"} {
		if got := ipctest.Await(t, "a message", handled); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func unhex(t *testing.T, step string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(step[2:], " ", ""))
	if err != nil {
		t.Fatalf("%q: %v", step, err)
	}
	return b
}

// expectBytes reads exactly these bytes, or the end.
func expectBytes(t *testing.T, step string, conn net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, max(len(want), 1))
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := io.ReadFull(conn, got)
	if want == nil && !errors.Is(err, io.EOF) || want != nil && !bytes.Equal(got[:n], want) {
		t.Fatalf("%q: got % x (%v)", step, got[:n], err)
	}
}
