// SPDX-License-Identifier: Apache-2.0

// Package c_test runs the programs of the C client against the Go library. test.sh compiles them.
package c_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// programs returns the directory of the programs, and a place for sockets.
func programs(t *testing.T) (dir, sockets string) {
	t.Helper()
	dir = os.Getenv("UDSIPC_TEST_C")
	if dir == "" {
		t.Skip("UDSIPC_TEST_C is set by test.sh")
	}
	sockets, err := os.MkdirTemp("", "c") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	return dir, sockets
}

// command returns a command that is killed with the test.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	return cmd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freePort returns a TCP address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

// TestConform: both ends pass the cases of the protocol.
func TestConform(t *testing.T) {
	dir, sockets := programs(t)
	unix := filepath.Join(sockets, "s")
	tcp, tcp2, tcp3 := freePort(t), freePort(t), freePort(t)
	for name, args := range map[string][]string{
		"reader":             {unix + "1", "--", dir + "/handled", unix + "1"},
		"reader, limit":      {unix + "2", "--", dir + "/handled", unix + "2", "5000"},
		"reader, TCP":        {tcp, "--", dir + "/handled", tcp, "1000000"},
		"writer, plain":      {"--listen", unix + "3", "--", dir + "/lines", "plain", unix + "3"},
		"writer":             {"--listen", "--messages", "2000", unix + "4", "--", dir + "/lines", "session", unix + "4"},
		"writer, TCP":        {"--listen", "--messages", "500", tcp2, "--", dir + "/lines", "session", tcp2},
		"writer, plain, TCP": {"--listen", tcp3, "--", dir + "/lines", "plain", tcp3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if table, err := command(t, dir+"/udsipc", append([]string{"conform"}, args...)...).Output(); err != nil {
				t.Errorf("%v\n%s", err, table)
			}
		})
	}
}

// TestDocs_Commands_Run: the commands of docs/CLIENTS.md work, with the programs of this client.
func TestDocs_Commands_Run(t *testing.T) {
	dir, sockets := programs(t)
	page, err := os.ReadFile("../../docs/CLIENTS.md")
	must(t, err)
	must(t, os.Symlink(dir+"/handled", sockets+"/my-reader"))
	must(t, os.WriteFile(sockets+"/my-writer", []byte("#!/bin/sh\nexec "+dir+"/lines session \"$1\"\n"), 0o700))
	found := 0
	for _, block := range strings.Split(string(page), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			found++
			address := filepath.Join(sockets, fmt.Sprint("s", found))
			script := strings.NewReplacer("/tmp/app.sock", address, "--listen", "--listen --messages 1000").Replace(line)
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				cmd := command(t, "sh", "-c", script)
				cmd.Dir, cmd.Env = sockets, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
				table, err := cmd.Output()
				if err != nil || !strings.Contains(string(table), " 0 failed") {
					t.Errorf("%v\n%s", err, table)
				}
			})
		}
	}
	if found != 3 {
		t.Errorf("%d commands", found)
	}
}

// TestSizes_BothWays: messages of many sizes, from C to Go and from Go to C.
func TestSizes_BothWays(t *testing.T) {
	dir, sockets := programs(t)
	var list [][]byte
	for size := 1; size < 9<<20; size = size*3 + 1 {
		list = append(list, bytes.Repeat([]byte("m"), size))
	}
	for _, mode := range []string{"plain", "session"} {
		address, at := filepath.Join(sockets, mode), 0
		r, err := udsipc.NewReader(func(data []byte) error {
			if !bytes.Equal(data, list[at]) {
				t.Errorf("%s: got %d bytes, want %d", mode, len(data), len(list[at]))
			}
			at++
			return nil
		}, address)
		must(t, err)
		must(t, r.Start())
		writer := command(t, dir+"/lines", mode, address)
		writer.Stdin = bytes.NewReader(append(bytes.Join(list, []byte("\n")), '\n'))
		must(t, writer.Run())
		must(t, r.Close())
		if at != len(list) {
			t.Errorf("%s: %d messages, want %d", mode, at, len(list))
		}
		reader := command(t, dir+"/handled", address)
		out, err := reader.StdoutPipe()
		must(t, err)
		must(t, reader.Start())
		var opts []udsipc.WriterOption
		if mode == "session" {
			opts = append(opts, udsipc.WithAcknowledgements())
		}
		w, err := udsipc.NewWriter(address, opts...)
		must(t, err)
		must(t, w.Start())
		must(t, w.WriteMessages(list))
		must(t, w.Close())
		lines := bufio.NewScanner(out)
		for _, m := range list {
			want := fmt.Sprintf("%d %d - %s", len(m), len(m)*'m', m[:min(len(m), 40)])
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("got %q, want %q", lines.Text(), want)
			}
		}
		must(t, reader.Process.Signal(os.Interrupt))
		must(t, reader.Wait())
	}
}

// TestReadme_Programs_Run: the reader prints what the writer sends, and what a Writer in Go sends.
func TestReadme_Programs_Run(t *testing.T) {
	dir, sockets := programs(t)
	address := filepath.Join(sockets, "s")
	reader := command(t, dir+"/readme2", address)
	out, err := reader.StdoutPipe()
	must(t, err)
	must(t, reader.Start())
	must(t, command(t, dir+"/readme1", address, "hello", "again").Run())
	send := command(t, dir+"/udsipc", "send", "--ack", address)
	send.Stdin, send.Stderr = strings.NewReader("from Go\n"), io.Discard
	must(t, send.Run())
	lines := bufio.NewScanner(out)
	for _, want := range []string{"1: hello", "2: again", "1: from Go"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, want %q", lines.Text(), want)
		}
	}
	must(t, reader.Process.Signal(os.Interrupt))
	must(t, reader.Wait())
}
