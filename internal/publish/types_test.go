// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/rpc"
	"github.com/udsipc/udsipc/spool"
)

// A source is one of the types that publish.
type source interface {
	Start() error
	Close() error
}

// look returns a snapshot of the one publication in a folder.
func look(t *testing.T, folder string) *publish.Snapshot {
	t.Helper()
	client := dial(t, only(t, folder))
	defer client.Close()
	s, err := client.Next(patience)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWithPublishedMetrics_EachType_Publishes from Start to the end, as what it is.
func TestWithPublishedMetrics_EachType_Publishes(t *testing.T) {
	option := udsipc.WithPublishedMetrics("here")
	handle := func([]byte) error { return nil }
	for kind, create := range map[string]func(address string) (source, error){
		"writer":   func(a string) (source, error) { return udsipc.NewWriter(a, option) },
		"reader":   func(a string) (source, error) { return udsipc.NewReader(handle, a, option) },
		"listener": func(a string) (source, error) { return udsipc.NewListener(a, option) },
		"duplex": func(a string) (source, error) {
			return duplex.NewServer(a, func(context.Context, *duplex.ServerConn, duplex.Message) error { return nil }, option)
		},
		"rpc":  func(a string) (source, error) { return rpc.NewServer(a, option) },
		"link": func(a string) (source, error) { return udsipc.NewLink(a, func([]byte) {}, option) },
		"duplex-client": func(a string) (source, error) {
			return duplex.NewHandlerClient(a, func(duplex.Message) {}, option)
		},
		"rpc-client": func(a string) (source, error) { return rpc.NewClient(a, option) },
		"spool": func(a string) (source, error) {
			return spool.NewWriter(filepath.Join(t.TempDir(), "spool"), a, spool.WithWriter(option))
		},
	} {
		t.Run(kind, func(t *testing.T) {
			folder := private(t)
			address := ipctest.SocketPath(t)
			s, err := create(address)
			if err != nil {
				t.Fatal(err)
			}
			if ipctest.Lstat(t, folder) != nil {
				t.Error("published before Start")
			}
			for range 2 {
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
			}
			got := look(t, folder)
			if got.Kind != kind || got.Name != "here" || got.Address != address || len(got.Counters) < 8 {
				t.Errorf("published %+v", got)
			}
			checkGauges(t, got)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			ipctest.CheckEmpty(t, folder)
			if err := s.Start(); err == nil {
				t.Error("started after Close")
			}
			ipctest.CheckEmpty(t, folder)
		})
	}
}

// checkGauges compares which metrics are gauges with docs/METRICS.md.
func checkGauges(t *testing.T, s *publish.Snapshot) {
	t.Helper()
	text, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, found := strings.Cut(string(text), "\n| `"+s.Kind+"` |")
	if !found {
		t.Fatalf("METRICS.md has no row for %s", s.Kind)
	}
	row, _, _ = strings.Cut(row, "\n")
	cells := strings.Split(row, "|")
	documented := strings.FieldsFunc(cells[len(cells)-2], func(r rune) bool { return strings.ContainsRune(" `,", r) })
	for name := range s.Counters {
		if strings.HasSuffix(name, "_ns") || strings.HasSuffix(name, "_age") {
			t.Errorf("%s of %s is a counter", name, s.Kind)
		}
	}
	var got []string
	for name := range s.Gauges {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(documented)
	if !slices.Equal(got, documented) {
		t.Errorf("gauges of %s are %v, METRICS.md has %v", s.Kind, got, documented)
	}
}

// TestWithPublishedMetrics_Peers_AreTold: a Reader tells who sends how much, a Writer who listens.
func TestWithPublishedMetrics_Peers_AreTold(t *testing.T) {
	folder, address := private(t), ipctest.SocketPath(t)
	handled := make(chan struct{}, 3)
	reader, err := udsipc.NewReader(func([]byte) error { handled <- struct{}{}; return nil }, address,
		udsipc.WithPublishedMetrics("r"))
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustListenAt(t, reader)
	defer reader.Close()
	endpoint := only(t, folder)
	client := dial(t, endpoint)
	if s, err := client.Next(patience); err != nil || len(s.Peers) != 0 {
		t.Errorf("before a writer has connected: %+v, %v", s, err)
	}
	writer, err := udsipc.NewWriter(address, udsipc.WithPublishedMetrics("w"), udsipc.WithAcknowledgements())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := writer.WriteMessage([]byte("12345678")); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := client.Next(patience)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Peers) != 1 || s.Peers[0].PID != os.Getpid() || s.Peers[0].UID != os.Geteuid() || s.Peers[0].Messages != 3 ||
		s.Peers[0].Bytes < 24 || s.Counters["received"] != 3 || s.Gauges["connections"] != 1 {
		t.Errorf("the reader publishes %+v", s)
	}
	found, err := publish.Find(folder)
	if err != nil || len(found) != 2 {
		t.Fatalf("found %v, %v", found, err)
	}
	other := found[slices.IndexFunc(found, func(e publish.Endpoint) bool { return e.Name == "w" })]
	if s, err = dial(t, other).Next(patience); err != nil {
		t.Fatal(err)
	}
	if len(s.Peers) != 1 || s.Peers[0].PID != os.Getpid() || s.Gauges["connected"] != 1 ||
		s.Latencies["ack_time"].Count != 3 {
		t.Errorf("the writer publishes %+v", s)
	}
}

// TestWithPublishedMetrics_Impossible_IsReported: metrics stop no program. A wrong name does.
func TestWithPublishedMetrics_Impossible_IsReported(t *testing.T) {
	if err := os.Symlink(t.TempDir(), private(t)); err != nil {
		t.Fatal(err)
	}
	var reported []error
	var mu sync.Mutex
	note := func(err error, _ string) {
		mu.Lock()
		defer mu.Unlock()
		if !errors.Is(err, udsipc.ErrNoConsumer) {
			reported = append(reported, err)
		}
	}
	writer, err := udsipc.NewWriter(ipctest.SocketPath(t), udsipc.WithPublishedMetrics("w"),
		udsipc.WithWriterErrorCallback(note))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := udsipc.NewReader(func([]byte) error { return nil }, ipctest.SocketPath(t),
		udsipc.WithPublishedMetrics("r"), udsipc.WithReaderErrorCallback(note))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []source{writer, reader} {
		if err := s.Start(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(reported) != 2 {
		t.Fatalf("reported %v, want two errors", reported)
	}
	for _, err := range reported {
		var op *udsipc.OpError
		if !errors.As(err, &op) || op.Op != udsipc.OpPublish || !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			t.Errorf("reported %v", err)
		}
	}
	for _, option := range []udsipc.Option{udsipc.WithPublishedMetrics(""), udsipc.WithPublishedMetrics("../x")} {
		if _, err := udsipc.NewWriter("/run/x", option); err == nil ||
			!strings.Contains(err.Error(), "WithPublishedMetrics(") {
			t.Errorf("a wrong name: %v", err)
		}
	}
	if _, err := udsipc.Dial(t.Context(), "/run/x", udsipc.WithPublishedMetrics("x")); err == nil ||
		!strings.Contains(err.Error(), "WithPublishedMetrics") {
		t.Errorf("of a Conn, which publishes nothing: %v", err)
	}
}

// TestWithPublishedMetrics_Listener_EndsWithClose, although an accepted connection stays open.
func TestWithPublishedMetrics_Listener_EndsWithClose(t *testing.T) {
	folder, address := private(t), ipctest.SocketPath(t)
	listener, err := udsipc.Listen(address, udsipc.WithPublishedMetrics("l"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if s := look(t, folder); s.Gauges["connections"] != 1 || len(s.Peers) != 1 {
		t.Errorf("published %+v", s)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	ipctest.CheckEmpty(t, folder)
}

// TestWithPublishedMetrics_Spool_IsOneSocket: the Writers below a spool do not publish.
func TestWithPublishedMetrics_Spool_IsOneSocket(t *testing.T) {
	folder, address := private(t), ipctest.SocketPath(t)
	reader, err := udsipc.NewReader(func([]byte) error { return nil }, address)
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustListenAt(t, reader)
	defer reader.Close()
	w, err := spool.NewWriter(filepath.Join(t.TempDir(), "spool"), address,
		spool.WithWriter(udsipc.WithPublishedMetrics("s")))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(w.Start(), w.WriteMessage([]byte("x")), w.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := look(t, folder)
	if s.Kind != "spool" || s.Counters["sent"] != 1 || s.Gauges["writer_connected"] != 1 ||
		s.Counters["writer_sent"] != 1 {
		t.Errorf("a spool publishes %+v", s)
	}
}
