// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

// patience bounds what takes no time unless something is wrong.
const patience = 10 * time.Second

// private gives the process a directory of its own to publish in, and returns it.
func private(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "udsipc")
}

// published starts a publication of these metrics, which may not fail.
func published(t *testing.T, metrics any) *publish.Publication {
	t.Helper()
	p := publish.New(publish.Config{
		Name: "test", Kind: "writer", Address: "/run/app.sock", Gauges: []string{"queued"},
		Snapshot: func() any { return metrics }, Report: func(err error) { t.Error(err) },
	})
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// only returns the one endpoint of a folder.
func only(t *testing.T, folder string) publish.Endpoint {
	t.Helper()
	found, err := publish.Find(folder)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d sockets in %s: %v", len(found), folder, err)
	}
	return found[0]
}

func dial(t *testing.T, e publish.Endpoint) *publish.Client {
	t.Helper()
	c, err := e.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPublication_Snapshots_TellMetrics(t *testing.T) {
	folder := private(t)
	metrics := map[string]any{
		"sent": uint64(1) << 63, "queued": 7, "connected": true, "idle": false, "memory": -1,
		"ack_time": map[string]any{"count": 3, "p50_ns": 1000, "p99_ns": 2000, "max_ns": 3000,
			"sum_seconds": 0.5, "buckets": []int{1, 3}},
		"writer": map[string]any{"errors": 2},
		"text":   "not a metric", "list": []int{1},
	}
	p := published(t, metrics)
	p.Start() // Once more: nothing happens.
	endpoint := only(t, folder)
	ipctest.CheckMode(t, folder, fs.ModeDir|0o700)
	ipctest.CheckMode(t, endpoint.Path, fs.ModeSocket|0o600)
	if endpoint.PID != os.Getpid() || endpoint.UID != os.Geteuid() || endpoint.Name != "test" {
		t.Errorf("found %+v", endpoint)
	}
	client := dial(t, endpoint)
	for range 3 {
		s, err := client.Next(patience)
		if err != nil {
			t.Fatal(err)
		}
		executable, _ := os.Executable()
		if s.Version != 1 || s.PID != os.Getpid() || s.Executable != executable || s.Name != "test" || s.Kind != "writer" ||
			s.Address != "/run/app.sock" || s.Start.IsZero() || s.Time.Before(s.Start) {
			t.Errorf("a snapshot of %+v", s)
		}
		got, _ := json.Marshal([]any{s.Counters, s.Gauges, s.Latencies, s.Peers})
		const want = `[{"sent":9223372036854775808,"writer_errors":2},{"connected":1,"idle":0,"memory":-1,"queued":7},` +
			`{"ack_time":{"count":3,"p50_ns":1000,"p99_ns":2000,"max_ns":3000,"sum_seconds":0.5,"buckets":[1,3]}},[]]`
		if string(got) != want {
			t.Errorf("metrics\n%s, want\n%s", got, want)
		}
	}
	p.Stop()
	p.Stop()
	if _, err := client.Next(patience); err == nil {
		t.Error("a snapshot after Stop")
	}
	p.Start()
	ipctest.CheckEmpty(t, folder)
}

// TestPublication_Limits_Hold: what the protocol allows one client and all of them.
func TestPublication_Limits_Hold(t *testing.T) {
	folder := private(t)
	published(t, map[string]int{"sent": 1})
	path := only(t, folder).Path
	open := func() (net.Conn, error) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, err = bufio.NewReader(conn).ReadString('\n')
		return conn, err
	}
	var conns []net.Conn
	for range publish.MaxClients {
		conn, err := open()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if _, err := open(); err == nil {
		t.Error("one client more than the limit got a snapshot")
	}
	// A request is a newline. Another byte ends the connection, and makes room for another client.
	if _, err := conns[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conns[0]); err != nil || len(rest) > 0 {
		t.Errorf("after a wrong request: %q, %v", rest, err)
	}
	deadline := time.Now().Add(patience)
	_, err := open()
	for err != nil && time.Now().Before(deadline) {
		_, err = open() // The end of the connection is seen before there is room.
	}
	if err != nil {
		t.Errorf("no room after a client has ended: %v", err)
	}
}

// TestPublication_NameTaken_TakesAnother: by a process of another PID namespace, which has the same number.
func TestPublication_NameTaken_TakesAnother(t *testing.T) {
	folder := private(t)
	first := published(t, struct{}{})
	parts := strings.SplitN(filepath.Base(only(t, folder).Path), "-", 3)
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		ipctest.MustListen(t, filepath.Join(folder, fmt.Sprintf("%s-%d-%s", parts[0], number+1+i, parts[2])))
	}
	first.Stop()
	published(t, struct{}{})
	want := filepath.Join(folder, fmt.Sprintf("%s-%d-%s", parts[0], number+4, parts[2]))
	if ipctest.Lstat(t, want) == nil {
		t.Errorf("there is no %s", want)
	}
}

func TestPublication_UnsafeFolder_IsReported(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, folder string) error{
		"a link":          func(t *testing.T, folder string) error { return os.Symlink(t.TempDir(), folder) },
		"a file":          func(_ *testing.T, folder string) error { return os.WriteFile(folder, nil, 0o600) },
		"others may read": func(_ *testing.T, folder string) error { return os.Mkdir(folder, 0o755) },
		"another user's": func(t *testing.T, folder string) error {
			ipctest.AsRoot(t)
			return errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, ipctest.Nobody, ipctest.Nobody))
		},
	} {
		t.Run(what, func(t *testing.T) {
			folder := private(t)
			if err := spoil(t, folder); err != nil {
				t.Fatal(err)
			}
			var reported []error
			p := publish.New(publish.Config{Name: "x", Report: func(err error) { reported = append(reported, err) }})
			p.Start()
			p.Stop()
			if len(reported) != 1 || !errors.Is(reported[0], udsipc.ErrInvalidSocketPath) {
				t.Errorf("reported %v, want ErrInvalidSocketPath", reported)
			}
			if found, err := publish.Find(folder); err == nil && what != "another user's" {
				t.Errorf("found %v in it", found)
			}
		})
	}
}

func TestFolder_Environment_Decides(t *testing.T) {
	own, service := t.TempDir(), t.TempDir()
	temp := map[bool]string{true: "/run/udsipc", false: "/tmp/udsipc-"}[os.Geteuid() == 0]
	for _, c := range []struct{ session, service, want string }{
		{own, service, own + "/udsipc"},
		{"", service + ":/run/other", service + "/udsipc"},
		{"relative", service, service + "/udsipc"},
		{filepath.Join(own, "missing"), "", temp},
		{"", "", temp},
	} {
		t.Setenv("XDG_RUNTIME_DIR", c.session)
		t.Setenv("RUNTIME_DIRECTORY", c.service)
		if got, err := publish.Folder(); err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("with %+v: %s, %v", c, got, err)
		}
	}
	if os.Geteuid() == 0 { // As under sudo, which may keep the variable of the user.
		if err := os.Chown(own, ipctest.Nobody, -1); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_RUNTIME_DIR", own)
		if got, err := publish.Folder(); err != nil || got != temp {
			t.Errorf("in the directory of another user: %s, %v", got, err)
		}
	}
}

// TestFolders_Root_LooksEverywhere: root sees the directories of others, and nobody sees one that is not there.
func TestFolders_Root_LooksEverywhere(t *testing.T) {
	folder := private(t)
	t.Setenv("RUNTIME_DIRECTORY", filepath.Dir(folder)) // The same twice.
	if got := publish.Folders(); slices.Contains(got, folder) {
		t.Errorf("%v has a directory that is not there", got)
	}
	if os.Geteuid() == 0 {
		nested := fmt.Sprintf("/run/udsipc-test-%d/b/udsipc", os.Getpid()) // RuntimeDirectory=a/b
		defer os.RemoveAll(filepath.Dir(filepath.Dir(nested)))
		if err := os.MkdirAll(nested, 0o700); err != nil {
			t.Fatal(err)
		}
		if got := publish.Folders(); !slices.Contains(got, nested) {
			t.Errorf("%v has not %s", got, nested)
		}
	}
	const uid = 1_999_999_999 // That nobody has.
	others, strange := fmt.Sprintf("/tmp/udsipc-%d", uid), fmt.Sprintf("/tmp/udsipc-%d", uid+1)
	for _, path := range []string{others, strange} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(others, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	got := publish.Folders()
	if i := slices.Index(got, folder); i < 0 || slices.Contains(got[i+1:], folder) {
		t.Errorf("%v has not %s, or twice", got, folder)
	}
	if slices.Contains(got, others) != (os.Geteuid() == 0) {
		t.Errorf("uid %d looks in %v", os.Geteuid(), got)
	}
	if slices.Contains(got, strange) {
		t.Errorf("%v has %s, which is not of that user", got, strange)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "audit-log_2.x", strings.Repeat("x", publish.MaxName)} {
		if err := publish.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".a", "a/b", "a b", "ä", "a\n", strings.Repeat("x", publish.MaxName+1)} {
		if publish.CheckName(name) == nil {
			t.Errorf("%q is allowed", name)
		}
	}
}
