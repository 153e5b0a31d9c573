// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

func init() {
	ipctest.Roles["impostor"] = func() error { // Listens, and says how many bytes it was sent.
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

// TestPeer_OtherUser_IsLimitedByModeOwnerAuthorizer comes as far as mode, owner and authorizer allow, each by itself.
func TestPeer_OtherUser_IsLimitedByModeOwnerAuthorizer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ipctest.AsRoot(t)
	for name, test := range map[string]struct {
		opts []udsipc.ReaderOption
		want string
	}{
		"the default":        {nil, "kept out"},
		"mode for the group": {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660)}, "kept out"},
		"mode for all":       {[]udsipc.ReaderOption{udsipc.WithSocketMode(0o666)}, "let in"},
		"owner":              {[]udsipc.ReaderOption{udsipc.WithSocketOwner(ipctest.Nobody, -1)}, "let in"},
		"group of the socket": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, ipctest.Nobody),
		}, "let in"},
		"supplementary group": {
			[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, 4242)},
			"let in"},
		"another group": {
			[]udsipc.ReaderOption{udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(-1, 4243)},
			"kept out"},
		"authorizer, other users": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowUIDs(0, 1)),
		}, "sent away, 1 bytes read"},
		"authorizer, this user": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowUIDs(ipctest.Nobody)),
		}, "let in"},
		"authorizer, same user": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.SameUser()),
		}, "sent away, 1 bytes read"},
		"authorizer, group": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(ipctest.Nobody)),
		}, "let in"},
		"authorizer, supplementary": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(4242)),
		}, "let in"},
		"authorizer, another group": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666), udsipc.WithAuthorizer(udsipc.AllowGIDs(0, 4243)),
		}, "sent away, 1 bytes read"},
		"authorizer, one of several": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666),
			udsipc.WithAuthorizer(udsipc.AnyOf(udsipc.SameUser(), udsipc.AllowGIDs(4242))),
		}, "let in"},
		"authorizer, not all of several": {[]udsipc.ReaderOption{
			udsipc.WithSocketMode(0o666),
			udsipc.WithAuthorizer(udsipc.AllOf(udsipc.SameUser(), udsipc.AllowGIDs(4242))),
		}, "sent away, 1 bytes read"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ipctest.OpenDir(t)
			path := filepath.Join(dir, "s")
			errs := ipctest.Collect()
			got := make(chan string, 1)
			ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil },
				path, append(test.opts, udsipc.WithReaderErrorCallback(errs.Callback))...)
			cmd, output := ipctest.AsNobody(t, dir, "visitor", "SOCKET="+path)
			if !output.Scan() || output.Text() != test.want {
				t.Errorf("the visitor was %q, want %q", output.Text(), test.want)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			switch {
			case test.want == "let in":
				ipctest.Await(t, "its message", got)
			case strings.HasPrefix(test.want, "sent away"):
				if err := errs.Want(t, udsipc.ErrUnauthorized); !strings.Contains(err.Error(),
					fmt.Sprintf("uid %d", ipctest.Nobody)) {
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

// TestWriter_AuthorizerRejectsListener_SendsNothing: a Writer that knows who should listen sends
// nothing to somebody else.
func TestWriter_AuthorizerRejectsListener_SendsNothing(t *testing.T) {
	t.Parallel()
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	_, output := ipctest.AsNobody(t, dir, "impostor", "SOCKET="+path)
	if !output.Scan() || output.Text() != "listening" {
		t.Fatalf("the impostor says %q", output.Text())
	}
	for _, mode := range [][]udsipc.WriterOption{nil, {udsipc.WithAcknowledgements()}} {
		errs := ipctest.Collect()
		w := ipctest.StartedWriter(t, path, append(mode, udsipc.WithAuthorizer(udsipc.AllowUIDs(0)),
			udsipc.WithWriterErrorCallback(errs.Callback))...)
		ipctest.MustWriteMessage(t, w, "secret")
		if err := errs.Want(t, udsipc.ErrUnauthorized); !strings.Contains(err.Error(),
			fmt.Sprintf("uid %d", ipctest.Nobody)) {
			t.Errorf("%v does not name the user", err)
		}
		if !output.Scan() || output.Text() != "0" {
			t.Errorf("the impostor was sent %q bytes", output.Text())
		}
	}
}

// TestSession_SameIDOtherUser_IsSeparateWriter: a writer of another user with the same name is another writer.
func TestSession_SameIDOtherUser_IsSeparateWriter(t *testing.T) {
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	path := filepath.Join(dir, "s")
	var once sync.Once
	arrived := make(chan struct{})
	r := ipctest.StartReader(t,
		func([]byte) error { once.Do(func() { close(arrived) }); return nil }, path,
		udsipc.WithSocketMode(0o666))
	id := udsipc.WriterID{1}
	conn, _ := ipctest.OpenSession(t, path, wire.Hello{Writer: wire.WriterID(id), Epoch: 5, FirstSeq: 1}, "one")
	ipctest.AwaitAck(t, conn, 1)
	ipctest.Await(t, "the first message", arrived)
	_, output := ipctest.AsNobody(t, dir, "namesake", "SOCKET="+path)
	if !output.Scan() || output.Text() != "welcome, 0 handled" {
		t.Errorf("the namesake was told %q", output.Text())
	}
	ipctest.MustWrite(t, conn, ipctest.Frames("two"))
	ipctest.AwaitAck(t, conn, 2)
	if m := r.Metrics(); m.WriterStates != 2 || m.DuplicatesSuppressed != 0 {
		t.Errorf("%+v, want two writers", m)
	}
}

func init() {
	ipctest.Roles["namesake"] = func() error {
		conn, err := net.Dial("unix", os.Getenv("SOCKET"))
		if err != nil {
			return err
		}
		if _, err := conn.Write(wire.Hello{Writer: wire.WriterID{1}, Epoch: 1 << 40, FirstSeq: 1}.Append(nil)); err != nil {
			return err
		}
		b := make([]byte, 100)
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		w, _, err := wire.ParseWelcome(b[:n])
		fmt.Printf("welcome, %d handled\n", w.Handled)
		return err
	}
}
