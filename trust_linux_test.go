// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func init() {
	roles["visitor"] = func() error { // Says how far it comes.
		conn, err := net.Dial("unix", os.Getenv("SOCKET"))
		if errors.Is(err, syscall.EACCES) {
			fmt.Println("kept out")
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(frames("let me in")); err != nil && !errors.Is(err, syscall.EPIPE) {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		switch n, err := conn.Read(make([]byte, 1)); {
		case isTimeout(err):
			fmt.Println("let in")
		default:
			fmt.Printf("sent away, %d bytes read\n", n)
		}
		return nil
	}
	roles["impostor"] = func() error { // Listens, and says how many bytes it was sent.
		l, err := net.Listen("unix", os.Getenv("SOCKET"))
		if err != nil {
			return err
		}
		if err := os.Chmod(os.Getenv("SOCKET"), 0o666); err != nil {
			return err
		}
		fmt.Println("listening")
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			n, _ := io.Copy(io.Discard, conn)
			fmt.Println(n)
		}
	}
}

// asNobody starts a process of another user, which may enter the folder, and returns what it says.
func asNobody(tb testing.TB, folder, role string, environment ...string) (cmd *exec.Cmd, output *bufio.Scanner) {
	tb.Helper()
	asRoot(tb)
	cmd = process(tb, role, environment...)
	self, err := os.ReadFile(cmd.Path) // The binary lies where the other user may not go.
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Path = filepath.Join(folder, "binary")
	if err := os.WriteFile(cmd.Path, self, 0o755); err != nil && !errors.Is(err, syscall.ETXTBSY) {
		tb.Fatal(err)
	}
	if err := os.Chmod(cmd.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{4242}}}
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // One that has ended is none the worse.
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(pipe)
}

// TestAnotherUser comes as far as mode, owner and authorizer allow, each by itself.
func TestAnotherUser(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	asRoot(t)
	for name, test := range map[string]struct {
		opts []udsipc.ReaderOption
		want string
	}{
		"the default":                    {nil, "kept out"},
		"mode for the group":             {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660)}, "kept out"},
		"mode for all":                   {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666)}, "let in"},
		"owner":                          {[]udsipc.ReaderOption{udsipc.WithSocketOwner(nobody, -1)}, "let in"},
		"group of the socket":            {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, nobody)}, "let in"},
		"supplementary group":            {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, 4242)}, "let in"},
		"another group":                  {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, 4243)}, "kept out"},
		"authorizer, other users":        {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowUIDs(0, 1))}, "sent away, 1 bytes read"},
		"authorizer, this user":          {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowUIDs(nobody))}, "let in"},
		"authorizer, same user":          {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.SameUser())}, "sent away, 1 bytes read"},
		"authorizer, group":              {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(nobody))}, "let in"},
		"authorizer, supplementary":      {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(4242))}, "let in"},
		"authorizer, another group":      {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(0, 4243))}, "sent away, 1 bytes read"},
		"authorizer, one of several":     {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AnyOf(udsipc.SameUser(), udsipc.AllowGIDs(4242)))}, "let in"},
		"authorizer, not all of several": {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllOf(udsipc.SameUser(), udsipc.AllowGIDs(4242)))}, "sent away, 1 bytes read"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := openFolder(t)
			path := filepath.Join(folder, "s")
			errs := collect()
			got := make(chan string, 1)
			startReader(t, func(data []byte) error { got <- string(data); return nil }, path, append(test.opts, udsipc.WithReaderErrorCallback(errs.callback))...)
			cmd, output := asNobody(t, folder, "visitor", "SOCKET="+path)
			if !output.Scan() || output.Text() != test.want {
				t.Errorf("the visitor was %q, want %q", output.Text(), test.want)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			switch {
			case test.want == "let in":
				await(t, "its message", got)
			case strings.HasPrefix(test.want, "sent away"):
				if err := errs.want(t, udsipc.ErrUnauthorized); !strings.Contains(err.Error(), fmt.Sprintf("uid %d", nobody)) {
					t.Errorf("%v does not name the user", err)
				}
				fallthrough
			default:
				if len(got) > 0 {
					t.Error("its message was handled")
				}
			}
		})
	}
}

// TestImpostor: a Writer that knows who should listen sends nothing to somebody else.
func TestImpostor(t *testing.T) {
	t.Parallel()
	asRoot(t)
	folder := openFolder(t)
	if err := os.Chmod(folder, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "s")
	_, output := asNobody(t, folder, "impostor", "SOCKET="+path)
	if !output.Scan() || output.Text() != "listening" {
		t.Fatalf("the impostor says %q", output.Text())
	}
	for _, mode := range [][]udsipc.WriterOption{nil, {udsipc.WithAcknowledgements()}} {
		errs := collect()
		w := startedWriter(t, path, append(mode, udsipc.WithAuthorizer(udsipc.AllowUIDs(0)), udsipc.WithWriterErrorCallback(errs.callback))...)
		mustWriteMessage(t, w, "secret")
		if err := errs.want(t, udsipc.ErrUnauthorized); !strings.Contains(err.Error(), fmt.Sprintf("uid %d", nobody)) {
			t.Errorf("%v does not name the user", err)
		}
		if !output.Scan() || output.Text() != "0" {
			t.Errorf("the impostor was sent %q bytes", output.Text())
		}
	}
}

// TestNobodyTakesAnothersPlace: a writer of another user with the same name is another writer.
func TestNobodyTakesAnothersPlace(t *testing.T) {
	asRoot(t)
	folder := openFolder(t)
	path := filepath.Join(folder, "s")
	var once sync.Once
	arrived := make(chan struct{})
	r := startReader(t, func([]byte) error { once.Do(func() { close(arrived) }); return nil }, path, udsipc.WithSocketMode(0o666))
	id := udsipc.WriterID{1}
	conn, _ := openSession(t, path, udsipc.Hello{Writer: id, Attempt: 5, First: 1}, "one")
	awaitAck(t, conn, 1)
	await(t, "the first message", arrived)
	_, output := asNobody(t, folder, "namesake", "SOCKET="+path)
	if !output.Scan() || output.Text() != "welcome, 0 handled" {
		t.Errorf("the namesake was told %q", output.Text())
	}
	mustWrite(t, conn, frames("two"))
	awaitAck(t, conn, 2)
	if m := r.Metrics(); m.WriterStates != 2 || m.DuplicatesSuppressed != 0 {
		t.Errorf("%+v, want two writers", m)
	}
}

func init() {
	roles["namesake"] = func() error {
		conn, err := net.Dial("unix", os.Getenv("SOCKET"))
		if err != nil {
			return err
		}
		if _, err := conn.Write(udsipc.Hello{Writer: udsipc.WriterID{1}, Attempt: 1 << 40, First: 1}.Bytes()); err != nil {
			return err
		}
		b := make([]byte, 100)
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		w, _, err := udsipc.ParseWelcome(b[:n])
		fmt.Printf("welcome, %d handled\n", w.Handled)
		return err
	}
}
