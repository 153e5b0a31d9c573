// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/inspect"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestExamine_Listeners_AreFound by each kind of address, with their names and limits.
func TestExamine_Listeners_AreFound(t *testing.T) {
	for _, address := range []string{ipctest.SocketPath(t), ipctest.AbstractName(t), "tcp://127.0.0.1:0", "tcp://[::]:0"} {
		listener := ipctest.MustListen(t, address)
		if _, port, err := net.SplitHostPort(listener.Addr().String()); err == nil {
			address = "tcp://127.0.0.1:" + port
		}
		report, err := inspect.Examination{Within: patience, Quiet: true}.Examine(t.Context(), address)
		if err != nil || len(report.Listeners) != 1 {
			t.Errorf("%s: %+v, %v", address, report, err)
			continue
		}
		p := report.Listeners[0]
		executable, _ := os.Executable()
		if p.PID != os.Getpid() || p.UID != os.Geteuid() || p.Executable != executable || p.Name == "" || p.OpenFiles < 3 ||
			p.MaxFiles == 0 || p.Listens != (report.Kind != inspect.KindTCP) {
			t.Errorf("%s: %+v", address, p)
		}
	}
}

// TestExamine_BacklogFull_IsTold: the kernel refuses to queue another connection.
func TestExamine_BacklogFull_IsTold(t *testing.T) {
	path := ipctest.SocketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	dialed(t, path)
	report := examine(t, path)
	for _, want := range []string{
		"problem connect: the backlog of the listener is full",
		"problem listener: connections that wait to be accepted: 1 of",
	} {
		if got := text(report); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if len(report.Listeners) != 1 || report.Listeners[0].PID != os.Getpid() || !report.Listening {
		t.Errorf("%+v", report)
	}
}

// TestExamine_OlderSocket_IsTold: its file was replaced, and nobody can connect to it any more.
func TestExamine_OlderSocket_IsTold(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.MustListen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ipctest.MustListen(t, path)
	report, err := inspect.Examination{Within: patience, Quiet: true}.Examine(t.Context(), path)
	if err != nil || !strings.Contains(text(report), "note listener: 2 sockets were bound to this path and still listen") {
		t.Errorf("%s, %v", text(report), err)
	}
}

func init() {
	ipctest.Roles["examine"] = func() error {
		report, err := inspect.Examination{Within: patience}.Examine(context.Background(), os.Getenv("UDSIPC_TEST_ADDRESS"))
		for _, f := range report.Findings {
			fmt.Printf("%s %s: %s\n", f.Level, f.About, f.Text)
		}
		return err
	}
}

// TestExamine_OtherUser_IsTold: one who may not connect, and may not look into the process.
func TestExamine_OtherUser_IsTold(t *testing.T) {
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	path := filepath.Join(dir, "s")
	listener := ipctest.MustListen(t, path)
	for mode, want := range map[os.FileMode]string{
		0o600: "problem connect: this user (uid 65534) may not connect",
		0o666: fmt.Sprintf("ok listener: process %d (", os.Getpid()),
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		cmd := ipctest.Process(t, "examine", "UDSIPC_TEST_ADDRESS="+path)
		cmd.Path = ipctest.CopyBinary(t, dir, cmd.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ipctest.Nobody, Gid: ipctest.Nobody}}
		if mode == 0o666 {
			go func() { // Ends with the listener.
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					conn.Close()
				}
			}()
		}
		if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), want) {
			t.Errorf("mode %v: %s, %v, want %s", mode, output, err, want)
		}
	}
}

func TestUnixInodes_Text_IsParsed(t *testing.T) {
	const text = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01    11 /run/a b.sock
0000000000000000: 00000003 00000000 00000000 0001 03    12 /run/a b.sock
0000000000000000: 00000002 00000000 00010000 0005 01    13 /run/a b.sock
0000000000000000: 00000002 00000000 00010000 0001 01    14 @name
0000000000000000: 00000003 00000000 00000000 0001 03    15
0000000000000000: 00000002 00000000 00010000 0001 01    16 /run/a b.sock
0000000000000000: 00000002 00000000 00010000 0001 01 123456 /run/a  b.sock 
`
	for name, want := range map[string][]uint64{
		"/run/a b.sock": {11, 16}, "/run/a  b.sock ": {123456}, "@name": {14}, "/run/a": nil, "": nil,
	} {
		if got := inspect.UnixInodes(text, name); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestUnitOf_Cgroups(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/app.service\n":                                        "app.service",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/me.service/sub\n": "me.service",
		"12:cpu:/\n1:name=systemd:/system.slice/old.service\n":                  "old.service",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                      "session-2.scope",
		"0::/\n":                             "",
		"0::/system.slice/\x1b[2J.service\n": "?[2J.service",
	} {
		if got := inspect.UnitOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
