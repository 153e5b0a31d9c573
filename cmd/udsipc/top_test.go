// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

// private gives this process a directory of its own to publish in, and returns it.
func private(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "udsipc")
}

// exchange publishes the metrics of a Writer and a Reader after three messages.
func exchange(t *testing.T) (address string) {
	t.Helper()
	address = ipctest.SocketPath(t)
	reader, err := udsipc.NewReader(func([]byte) error { return nil }, address, udsipc.WithPublishedMetrics("the-reader"))
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustListenAt(t, reader)
	t.Cleanup(func() { reader.Close() })
	writer, err := udsipc.NewWriter(address, udsipc.WithPublishedMetrics("the-writer"), udsipc.WithAcknowledgements())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	err = writer.Start()
	for range 3 {
		err = errors.Join(err, writer.WriteMessage([]byte("12345")))
	}
	if err := errors.Join(err, writer.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	return address
}

func TestTop_Once_ShowsSources(t *testing.T) {
	folder := private(t)
	address := exchange(t)
	got := execute(t, nil, "top", "--once", "--who", "--directory", folder)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	lines := strings.Split(got.stdout, "\n")
	if len(lines) != 7 || !strings.Contains(lines[0], "2 sources of 1 process;") || !strings.Contains(lines[1], "MSG/S") {
		t.Errorf("printed\n%s", got.stdout)
	}
	for _, want := range []string{
		" reader the-reader " + address, " writer the-writer " + address,
		fmt.Sprintf("pid %d", os.Getpid()),
		fmt.Sprintf("uid %d", os.Geteuid()), "from connection 1", "to connection 1",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
}

func TestTop_JSON_HasSnapshots(t *testing.T) {
	folder := private(t)
	exchange(t)
	got := execute(t, nil, "top", "--once", "--json", "--sort", "name", "--directory", folder)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if got.code != exitOK || len(lines) != 2 {
		t.Fatalf("%+v", got)
	}
	for i, want := range []string{"the-reader", "the-writer"} {
		var record struct {
			publish.Snapshot
			Path  string
			Rates map[string]float64
		}
		if err := json.Unmarshal([]byte(lines[i]), &record); err != nil {
			t.Fatal(err)
		}
		messages := []string{"received", "sent"}[i]
		if record.Name != want || record.Counters[messages] != 3 || record.Rates[messages] <= 0 ||
			filepath.Dir(record.Path) != folder {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

func TestTop_Nobody_Fails(t *testing.T) {
	folder := private(t)
	got := execute(t, nil, "top", "--once", "--directory", folder)
	if got.code != exitFailed || !strings.Contains(got.stderr, "nobody publishes metrics in "+folder) || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	if got := execute(t, nil, "top", "--once"); got.code == exitUsage { // Where others may publish.
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"--interval", "1ms"}, {"--sort", "colour"}, {"operand"}} {
		if got := execute(t, nil, append([]string{"top"}, args...)...); got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// hostile fills a folder with sockets that do not follow the protocol.
func hostile(t *testing.T, folder string) {
	t.Helper()
	escape := "\x1b]0;title\x07\x1b[2J\u202e"
	snapshot := publish.Snapshot{
		Version: 1, PID: 1, Executable: "/x/" + escape, Name: escape, Kind: escape, Address: escape, Time: time.Now(),
		Peers: []publish.Peer{{Address: escape}},
	}
	line, err := snapshot.Line()
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]string{
		"silent": "", "endless": strings.Repeat("x", 1<<20), "garbage": escape + "\n", "escapes": string(line),
	} {
		l := ipctest.MustListen(t, filepath.Join(folder, "1-1-"+name+".sock"))
		go func() { // Ends with the listener.
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func(conn net.Conn) { _, _ = conn.Write([]byte(answer)) }(conn) // Ends with the connection.
			}
		}()
	}
	err = errors.Join(os.Symlink("/dev/zero", filepath.Join(folder, "1-1-link.sock")),
		os.WriteFile(filepath.Join(folder, "1-1-file.sock"), nil, 0o600),
		os.WriteFile(filepath.Join(folder, escape), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// TestTop_HostileFolder_GoesOn: the sources that answer are shown, and no byte of the others controls the terminal.
func TestTop_HostileFolder_GoesOn(t *testing.T) {
	folder := private(t)
	exchange(t)
	hostile(t, folder)
	got := execute(t, nil, "top", "--once", "--who", "--interval", "100ms", "--directory", folder)
	if got.code != exitOK || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"the-reader", "the-writer", "1 silent: it does not answer", "1 endless: it does not answer",
		"1 garbage: it does not answer", "1 link: it does not answer", "1 file: it does not answer",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
	strange := filepath.Join(folder, "\x1b[2J\n")
	if err := os.Mkdir(strange, 0o755); err != nil {
		t.Fatal(err)
	}
	none := execute(t, nil, "top", "--once", "--directory", strange)
	if want := "?[2J? (mode"; none.code != exitFailed || !strings.Contains(none.stderr, want) {
		t.Errorf("%+q, want %s", none.stderr, want)
	}
	for _, r := range got.stdout + none.stderr {
		if r != '\n' && r < ' ' || r == '\u202e' || r == 0x7f {
			t.Fatalf("a control character: %q", got.stdout)
		}
	}
}

// TestTopRow_Rates_AreExact: since the sample before, or since the start; whatever a source tells.
func TestTopRow_Rates_AreExact(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	snapshot := func(seconds int, sent uint64) *publish.Snapshot {
		return &publish.Snapshot{
			Kind: "writer", Start: start, Time: start.Add(time.Duration(seconds) * time.Second),
			Counters:  map[string]uint64{"sent": sent, "dropped": 2, "refused": 3},
			Gauges:    map[string]int64{"queued": 7, "connected": 1},
			Latencies: map[string]publish.Latency{"ack_time": {Count: 1, P50: 5, P99: 9}},
		}
	}
	for _, c := range []struct {
		before, now *publish.Snapshot
		want        float64
	}{
		{nil, snapshot(10, 1000), 100},
		{snapshot(10, 1000), snapshot(12, 1500), 250},
		{snapshot(10, 1000), snapshot(12, 10), 0},   // Another process has the name.
		{snapshot(10, 1000), snapshot(10, 2000), 0}, // A clock that stands.
		{snapshot(10, 1000), snapshot(5, 2000), 0},
	} {
		r := newTopRow(&topSource{last: c.now, before: c.before})
		if r.messages != c.want || r.queue != 7 || r.drops != 5 || r.connections != 1 || r.p50 != 5 || r.p99 != 9 {
			t.Errorf("%+v, want %v messages per second", r, c.want)
		}
	}
}

// TestTopTable_Width_IsKept: from 80 columns on, no line is cut but for its address.
func TestTopTable_Width_IsKept(t *testing.T) {
	full := []*topRow{{now: &publish.Snapshot{}, program: "a-long-program", kind: "duplex-client", name: "a-long-name"}}
	for width := 80; width < 200; width++ {
		sum := minAddress
		for _, c := range columnsFor(full, width) {
			sum += c.width + 1
		}
		if sum > width {
			t.Errorf("%d columns need %d", width, sum)
		}
	}
	if got, want := len(columnsFor(full, wideTable)), len(topColumns); got != want {
		t.Errorf("%d columns of a wide table, want %d", got, want)
	}
	r := newTopRow(&topSource{last: &publish.Snapshot{Kind: "x"}})
	short := []*topRow{{now: &publish.Snapshot{}, program: "udsipc", kind: "reader", name: "main"}}
	if got, most := len(columnsFor(short, 100)), len(columnsFor(full, 100)); got <= most {
		t.Errorf("%d columns of short texts, %d of long ones", got, most)
	}
	line := tableLine(topColumns, func(c topColumn) string { return strings.Repeat("9", 50) })
	if !strings.Contains(line, "9999999… ") || r.kind != "x" {
		t.Errorf("a line of %q", line)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 1234: "1.23µs", 65_536: "65.5µs", 1_999_999: "2ms", 12 * time.Millisecond: "12ms",
		1234 * time.Millisecond: "1.23s", 90 * time.Second: "1m30s", 3*time.Hour + 100*time.Millisecond: "3h0m0s",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%d ns: %s, want %s", d, got, want)
		}
	}
}
