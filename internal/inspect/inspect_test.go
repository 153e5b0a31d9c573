// SPDX-License-Identifier: Apache-2.0

//go:build unix

package inspect_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/inspect"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// patience is the time for an answer that comes at once.
const patience = 30 * time.Second

func examine(t *testing.T, address string) *inspect.Report {
	t.Helper()
	report, err := inspect.Examination{Within: patience}.Examine(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// text returns the findings that are no OK as text.
func text(r *inspect.Report) (all string) {
	for _, f := range r.Findings {
		if f.Level != inspect.OK && f.About != "limits" { // Those are of the machine.
			all += fmt.Sprintf("%s %s: %s\n", f.Level, f.About, f.Text)
		}
		if f.Level == inspect.Problem && f.Remedy == "" {
			all += "no remedy for: " + f.Text
		}
	}
	return all
}

// A listens is a Reader or a server.
type listens interface {
	Start() error
	Close() error
	Addr() net.Addr
}

// start starts a Reader or a server, and returns its address.
func start(t *testing.T, s listens, err error) (address string) {
	t.Helper()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if s.Addr().Network() == "tcp" {
		return "tcp://" + s.Addr().String()
	}
	return s.Addr().String()
}

func reader(t *testing.T, address string, opts ...udsipc.ReaderOption) string {
	t.Helper()
	r, err := udsipc.NewReader(func([]byte) error { return nil }, address, opts...)
	return start(t, r, err)
}

// TestExamine_Reader_IsLeftInPeace: it gets no message, keeps no state, and reports no error.
func TestExamine_Reader_IsLeftInPeace(t *testing.T) {
	for _, address := range []string{ipctest.SocketPath(t), ipctest.AbstractName(t), "tcp://127.0.0.1:0"} {
		r, err := udsipc.NewReader(func([]byte) error { t.Error("a message"); return nil }, address,
			udsipc.WithMaxMessageSize(1000), udsipc.WithReaderErrorCallback(func(err error, _ string) { t.Error(err) }))
		address = start(t, r, err)
		report := examine(t, address)
		want := inspect.Speaks{Known: true, Reader: true, Sessions: 1, Limit: 1000}
		if report.Speaks != want || !report.Listening || report.Stale {
			t.Errorf("%s: %+v", address, report)
		}
		if problems, _ := report.Problems(); problems > 0 || text(report) != "" && report.Kind != inspect.KindAbstract {
			t.Errorf("%s: %s", address, text(report))
		}
		if m := r.Metrics(); m.WriterStates+m.Sessions+m.Received+m.Malformed+m.Errors > 0 {
			t.Errorf("%s: metrics %+v", address, m)
		}
	}
}

// TestExamine_Server_IsLeftInPeace: servers of duplex and rpc report no error either.
func TestExamine_Server_IsLeftInPeace(t *testing.T) {
	silent := udsipc.WithReaderErrorCallback(func(err error, _ string) { t.Error(err) })
	d, err := duplex.NewServer(ipctest.SocketPath(t),
		func(context.Context, *duplex.ServerConn, duplex.Message) error { t.Error("a message"); return nil }, silent)
	examine(t, start(t, d, err))
	r, err := rpc.NewServer(ipctest.SocketPath(t), silent)
	examine(t, start(t, r, err))
	for _, s := range []listens{d, r} {
		if err := s.Close(); err != nil { // It has read everything then.
			t.Error(err)
		}
	}
	if n := d.Metrics().Errors + r.Metrics().Errors; n > 0 {
		t.Errorf("%d errors", n)
	}
}

// TestExamine_Quiet_ConnectsOnce, and sends nothing.
func TestExamine_Quiet_ConnectsOnce(t *testing.T) {
	r, err := udsipc.NewReader(func([]byte) error { return nil }, ipctest.SocketPath(t))
	address := start(t, r, err)
	report, err := inspect.Examination{Within: patience, Quiet: true}.Examine(t.Context(), address)
	if err != nil || report.Speaks.Known || !report.Listening || text(report) != "" {
		t.Errorf("%+v, %v", report, err)
	}
	if m := r.Metrics(); m.Accepted > 1 {
		t.Errorf("%d connections", m.Accepted)
	}
}

func TestExamine_Protocols_AreTold(t *testing.T) {
	authority := ipctest.NewAuthority(t)
	readerTLS, _ := authority.Configs(t)
	anyone := &tls.Config{Certificates: readerTLS.Certificates}
	for what, test := range map[string]struct {
		listen func(t *testing.T) string
		speaks inspect.Speaks
		text   string
	}{
		"a server of duplex": {func(t *testing.T) string {
			s, err := duplex.NewServer(ipctest.SocketPath(t),
				func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil })
			return start(t, s, err)
		}, inspect.Speaks{Known: true, Duplex: true, Limit: 10 << 20}, ""},
		"a server of rpc": {func(t *testing.T) string {
			s, err := rpc.NewServer("tcp://127.0.0.1:0")
			return start(t, s, err)
		}, inspect.Speaks{Known: true, Duplex: true, Limit: 10 << 20}, ""},
		"TLS": {func(t *testing.T) string { return reader(t, ipctest.SocketPath(t), udsipc.WithTLS(anyone)) },
			inspect.Speaks{Known: true, Reader: true, Sessions: 1, TLS: true, Limit: 10 << 20}, ""},
		"TLS with a certificate of the client": {func(t *testing.T) string {
			return reader(t, "tcp://127.0.0.1:0", udsipc.WithTLS(readerTLS))
		}, inspect.Speaks{Known: true, TLS: true, Limit: 10 << 20}, "note TLS: the listener asks for a certificate"},
		"an unauthorized user": {func(t *testing.T) string {
			return reader(t, ipctest.SocketPath(t), udsipc.WithAuthorizer(func(udsipc.Peer) error { return errors.New("no") }))
		}, inspect.Speaks{Known: true, Reader: true, Limit: 10 << 20}, "problem protocol: the reader refuses this user"},
		"too many connections": {func(t *testing.T) string {
			address := reader(t, ipctest.SocketPath(t), udsipc.WithMaxConnections(1))
			dialed(t, address)
			return address
		}, inspect.Speaks{Known: true, Reader: true, Limit: 10 << 20},
			"problem protocol: the reader refuses more connections"},
		"plain frames alone": {func(t *testing.T) string {
			return answer(t, func(c net.Conn) { c.Write([]byte("\x00\x07\x04\x01\x00\x80\x80\x80\x05")); c.Close() })
		}, inspect.Speaks{Known: true, Reader: true, Limit: 10 << 20},
			"note protocol: a reader of plain frames, without sessions"},
		"another protocol": {func(t *testing.T) string {
			return answer(t, func(c net.Conn) { fmt.Fprint(c, "220 mail\x1b[2J\r\n"); c.Close() })
		}, inspect.Speaks{Known: true}, `problem protocol: the listener speaks another protocol: it sent "220 mail\x1b[2J\r\n"`},
		"the end": {func(t *testing.T) string { return answer(t, func(c net.Conn) { c.Close() }) },
			inspect.Speaks{Known: true}, "note protocol: the listener closes connections without an answer"},
		"endless bytes": {func(t *testing.T) string {
			return answer(t, func(c net.Conn) { c.Write(make([]byte, 10<<20)); c.Close() })
		}, inspect.Speaks{Known: true}, "problem protocol: the listener speaks another protocol"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			report := examine(t, test.listen(t))
			got := text(report)
			if report.Speaks != test.speaks || !strings.HasPrefix(got, test.text) || (got == "") != (test.text == "") {
				t.Errorf("%+v, %s, want %+v, %s", report.Speaks, got, test.speaks, test.text)
			}
		})
	}
}

// TestExamine_HungListener_IsTold: it accepts nothing, or does not answer.
func TestExamine_HungListener_IsTold(t *testing.T) {
	listener := ipctest.MustListen(t, ipctest.SocketPath(t))
	report, err := inspect.Examination{Within: time.Millisecond}.Examine(t.Context(), listener.Addr().String())
	if err != nil || !strings.HasPrefix(text(report), "problem protocol: a connection was not served within 1ms") {
		t.Errorf("%v, %v", text(report), err)
	}
}

func TestExamine_Certificate_Expires(t *testing.T) {
	for days, want := range map[int]string{
		-1: "problem TLS: the certificate has expired", 3: "note TLS: the certificate expires",
	} {
		config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t, time.Now().AddDate(0, 0, days))}}
		report := examine(t, reader(t, ipctest.SocketPath(t), udsipc.WithTLS(config)))
		if got := text(report); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// dialed connects until the end of the test.
func dialed(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
}

// answer listens, and calls f with each connection.
func answer(t *testing.T, f func(conn net.Conn)) (address string) {
	t.Helper()
	address = ipctest.SocketPath(t)
	listener := ipctest.MustListen(t, address)
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() { f(conn) })
		}
	})
	t.Cleanup(handlers.Wait)
	t.Cleanup(func() { listener.Close() })
	return address
}

func TestExamine_Files_AreTold(t *testing.T) {
	for what, test := range map[string]struct {
		make func(path string) error
		text string
	}{
		"nothing": {func(string) error { return nil }, "problem file: there is no file"},
		"a file": {func(path string) error { return os.WriteFile(path, nil, 0o600) },
			"problem file: PATH is no socket: its mode is -rw-------"},
		"a stale socket": {func(path string) error { ipctest.LeaveStale(t, path); return nil },
			"problem connect: nobody listens: the file is stale"},
		"a link": {func(path string) error {
			return os.Symlink(ipctest.MustListen(t, ipctest.SocketPath(t)).Addr().String(), path)
		}, "note file: PATH is a symbolic link"},
		"a link to nothing": {func(path string) error { return os.Symlink(path+"x", path) },
			"problem file: the link leads nowhere: there is no file PATHx"},
		"no directory": {func(path string) error { return os.Remove(filepath.Dir(path)) },
			"problem directory: there is no directory "},
		"a link to itself": {func(path string) error { return os.Symlink(path, path) }, "the links go in a circle"},
		"a socket for datagrams": {func(path string) error {
			conn, err := net.ListenPacket("unixgram", path)
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return err
		}, "problem connect: a socket of another type"},
		"for everybody": {func(path string) error {
			ipctest.MustListen(t, path)
			return os.Chmod(path, 0o666)
		}, "note file: the socket belongs to "},
		"a directory of everybody": {func(path string) error {
			ipctest.MustListen(t, path)
			return os.Chmod(filepath.Dir(path), 0o777)
		}, "problem directory: "},
	} {
		t.Run(what, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			report, err := inspect.Examination{Within: patience, Quiet: true}.Examine(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(test.text, "PATH", path)
			if got := text(report); !strings.Contains(got, want) || report.Stale != strings.Contains(what, "stale") {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestExamine_NoListener_IsTold(t *testing.T) {
	free := ipctest.MustListen(t, "tcp://127.0.0.1:0")
	free.Close()
	for _, address := range []string{"tcp://" + free.Addr().String(), ipctest.AbstractName(t)} {
		if got := text(examine(t, address)); !strings.Contains(got, "problem connect: nobody listens") {
			t.Errorf("%s: %s", address, got)
		}
	}
	for _, address := range []string{"", "http://x", "tcp://x"} {
		if _, err := (inspect.Examination{}).Examine(t.Context(), address); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			t.Errorf("%q: %v", address, err)
		}
	}
}
