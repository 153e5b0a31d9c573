// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

// endpoints returns an endpoint of the folder for each name.
func makeFolder(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "f")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestFind_StrangeNames_AreLeftOut: what is in the folder and is no socket of the protocol does no harm.
func TestFind_StrangeNames_AreLeftOut(t *testing.T) {
	folder := makeFolder(t)
	for _, name := range []string{
		"x.sock", "1.sock", "1-2.sock", "0-1-x.sock", "-1-1-x.sock", "1-x-y.sock", "1-2-a b.sock", "1-2-x",
		".1-2-x.sock.lock",
		"99999999999999999999-1-x.sock", "1-2-\x1b[2J.sock", "1-2-.x.sock",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := publish.Find(folder); err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestDial_NoSocket_IsRefused(t *testing.T) {
	folder := makeFolder(t)
	file, link := filepath.Join(folder, "1-1-file.sock"), filepath.Join(folder, "1-2-link.sock")
	other := ipctest.SocketPath(t)
	accepted := make(chan struct{})
	listener := ipctest.MustListen(t, other)
	go func() {
		if _, err := listener.Accept(); err == nil {
			close(accepted)
		}
	}()
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Symlink(other, link)); err != nil {
		t.Fatal(err)
	}
	found, err := publish.Find(folder)
	if err != nil || len(found) != 2 {
		t.Fatalf("found %v, %v", found, err)
	}
	for _, e := range found {
		if _, err := e.Dial(t.Context()); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			t.Errorf("%s: %v, want ErrInvalidSocketPath", e.Name, err)
		}
		if ipctest.Lstat(t, e.Path) == nil {
			t.Errorf("%s was removed", e.Name)
		}
	}
	select {
	case <-accepted:
		t.Error("the link was followed")
	default:
	}
}

func TestDial_StaleSocket_IsRemoved(t *testing.T) {
	folder := makeFolder(t)
	ipctest.LeaveStale(t, filepath.Join(folder, "4000000-1-old.sock"))
	if _, err := only(t, folder).Dial(t.Context()); !errors.Is(err, publish.ErrStale) {
		t.Errorf("%v, want ErrStale", err)
	}
	ipctest.CheckEmpty(t, folder)
}

// TestPublication_Crashes_LeaveOneSocket: a process removes what killed ones have left, and nothing else.
func TestPublication_Crashes_LeaveOneSocket(t *testing.T) {
	folder := private(t)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	ipctest.LeaveStale(t, filepath.Join(folder, "4000000-1-old.sock"))
	// A process that is there may be about to listen.
	ipctest.LeaveStale(t, filepath.Join(folder, fmt.Sprintf("%d-99999-alive.sock", os.Getpid())))
	elsewhere := filepath.Join(folder, "4000001-1-elsewhere.sock") // In another PID namespace.
	ipctest.MustListen(t, elsewhere)
	p := publish.New(publish.Config{Name: "new", Report: func(err error) { t.Error(err) }})
	p.Start()
	for ipctest.Lstat(t, filepath.Join(folder, "4000000-1-old.sock")) != nil {
		runtime.Gosched()
	}
	p.Stop()
	found, err := publish.Find(folder)
	if err != nil || len(found) != 2 {
		t.Errorf("%v are left, %v", found, err)
	}
}

// TestDial_OthersStaleSocket_Stays: root removes nothing of other users.
func TestDial_OthersStaleSocket_Stays(t *testing.T) {
	ipctest.AsRoot(t)
	folder := makeFolder(t)
	path := filepath.Join(folder, "4000000-1-old.sock")
	ipctest.LeaveStale(t, path)
	err := errors.Join(os.Chown(path, ipctest.Nobody, -1), os.Chown(folder, ipctest.Nobody, -1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only(t, folder).Dial(t.Context()); !errors.Is(err, publish.ErrStale) {
		t.Errorf("%v, want ErrStale", err)
	}
	if ipctest.Lstat(t, path) == nil {
		t.Error("it was removed")
	}
}

// TestDial_OthersSocket_IsRefused: a socket that another user listens on, or owns, is not one of the folder's owner.
func TestDial_OthersSocket_IsRefused(t *testing.T) {
	ipctest.AsRoot(t)
	folder := makeFolder(t)
	path := filepath.Join(folder, "1-1-x.sock")
	ipctest.MustListen(t, path)
	if err := os.Chown(path, ipctest.Nobody, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := only(t, folder).Dial(t.Context()); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
		t.Errorf("%v, want ErrInvalidSocketPath", err)
	}
}

// serve answers each client of an endpoint with what answer writes.
func serve(t *testing.T, answer func(conn net.Conn)) publish.Endpoint {
	t.Helper()
	folder := makeFolder(t)
	listener := ipctest.MustListen(t, filepath.Join(folder, "1-1-x.sock"))
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answer(conn)
		}
	}()
	return only(t, folder)
}

// TestClient_HostileServers_AreBounded: whatever a socket says, or if it says nothing, Next returns.
func TestClient_HostileServers_AreBounded(t *testing.T) {
	for what, answer := range map[string]func(conn net.Conn){
		"nothing":  func(net.Conn) {},
		"the end":  func(conn net.Conn) { conn.Close() },
		"endless":  func(conn net.Conn) { fmt.Fprint(conn, strings.Repeat("{", 2*publish.MaxLine)) },
		"no JSON":  func(conn net.Conn) { fmt.Fprintln(conn, "HTTP/1.1 400 Bad Request") },
		"array":    func(conn net.Conn) { fmt.Fprintln(conn, "[]") },
		"empty":    func(conn net.Conn) { fmt.Fprintln(conn, "{}") },
		"deep":     func(conn net.Conn) { fmt.Fprintln(conn, strings.Repeat("[", 20_000)) },
		"negative": func(conn net.Conn) { fmt.Fprintln(conn, `{"version":1,"pid":1,"kind":"x","counters":{"a":-1}}`) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			client := dial(t, serve(t, answer))
			within := patience
			if what == "nothing" {
				within = time.Millisecond
			}
			s, err := client.Next(within)
			if err == nil || what == "nothing" && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, %v", s, err)
			}
			t.Log(err)
		})
	}
}

func TestDial_ContextEnded_Returns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := serve(t, func(net.Conn) {}).Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that of the context", err)
	}
}

// TestSnapshot_ManyPeers_FitInALine: peers are left out, and counted, until the line is short enough.
func TestSnapshot_ManyPeers_FitInALine(t *testing.T) {
	s := publish.Snapshot{Version: 1, PID: 1, Kind: "reader", Time: time.Now(), MorePeers: 5}
	for range publish.MaxPeers {
		s.Peers = append(s.Peers, publish.Peer{Address: strings.Repeat("\x01", 107*10)})
	}
	line, err := s.Line()
	if err != nil || len(line) > publish.MaxLine {
		t.Fatalf("%d bytes, %v", len(line), err)
	}
	got, err := publish.Parse(line)
	if err != nil || len(got.Peers) == 0 || len(got.Peers)+got.MorePeers != publish.MaxPeers+5 {
		t.Errorf("%+v, %v", got, err)
	}
	s.Name = strings.Repeat("x", publish.MaxLine)
	if _, err := s.Line(); !errors.Is(err, publish.ErrMalformed) {
		t.Errorf("a line without end: %v", err)
	}
}

// TestParse_Vectors: the lines of the documentation.
func TestParse_Vectors(t *testing.T) {
	text, err := os.ReadFile("../../testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		What    string
		Line    json.RawMessage
		Invalid bool
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 5 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, v := range vectors {
		s, err := publish.Parse(v.Line)
		if v.Invalid != (err != nil) {
			t.Errorf("%s: %v", v.What, err)
		}
		if err != nil || strings.Contains(v.What, "later") {
			continue
		}
		line, err := s.Line()
		var got, want any
		if err := errors.Join(err, json.Unmarshal(line, &got), json.Unmarshal(v.Line, &want)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: formed as %s", v.What, line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"pid":7,"kind":"writer","time":"2026-01-02T03:04:05Z","counters":{"sent":1}}`))
	f.Add([]byte(`{"version":0}`)) // No version.
	f.Add([]byte("[]"))            // No object.
	f.Fuzz(func(t *testing.T, line []byte) {
		s, err := publish.Parse(line)
		if err != nil {
			if !errors.Is(err, publish.ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := s.Line()
		if err != nil {
			return // It is too long.
		}
		if second, err := publish.Parse(again); err != nil || second.PID != s.PID ||
			len(second.Counters) != len(s.Counters) {
			t.Errorf("%s: %v", again, err)
		}
	})
}
