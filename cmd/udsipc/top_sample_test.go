// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

// TestSampler_Sources_ComeAndGo: a source that ends is no longer shown, and a new one is.
func TestSampler_Sources_ComeAndGo(t *testing.T) {
	folder := private(t)
	s := newSampler()
	s.folders = []string{folder}
	defer s.close()
	names := func() (list string) {
		for _, row := range s.sample(t.Context(), 10*time.Second).rows {
			if row.now != nil {
				list += row.name + " "
			}
		}
		return list
	}
	publication := func(name string) *publish.Publication {
		p := publish.New(publish.Config{Name: name, Kind: "writer", Snapshot: func() any { return struct{}{} },
			Report: func(err error) { t.Error(err) }})
		p.Start()
		t.Cleanup(p.Stop)
		return p
	}
	first := publication("first")
	for range 3 {
		if got := names(); got != "first " {
			t.Errorf("%q, want the first", got)
		}
	}
	first.Stop()
	publication("second")
	if got := names(); got != "second " {
		t.Errorf("%q, want the second", got)
	}
	ipctest.LeaveStale(t, filepath.Join(folder, "4000000-1-dead.sock"))
	if got := names(); got != "second " {
		t.Errorf("%q, want the second", got)
	}
	if ipctest.Lstat(t, filepath.Join(folder, "4000000-1-dead.sock")) != nil {
		t.Error("a socket of a dead process was not removed")
	}
}

// TestSampler_NameOfAnother_HasItsOwnRates: process 1 of a container that was restarted has the same socket.
func TestSampler_NameOfAnother_HasItsOwnRates(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "f")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSampler()
	s.folders = []string{folder}
	defer s.close()
	start := time.Unix(1000, 0)
	for i, sent := range []uint64{100, 300} {
		began := start.Add(time.Duration(i) * time.Second)
		line, err := publish.Snapshot{Version: 1, PID: 1, Kind: "writer", Start: began, Time: began.Add(time.Second),
			Counters: map[string]uint64{"sent": sent}}.Line()
		if err != nil {
			t.Fatal(err)
		}
		l := ipctest.MustListen(t, filepath.Join(folder, "1-1-app.sock"))
		go func() { // Ends after the first client.
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write(line)
				_ = conn.Close()
			}
		}()
		if row := s.sample(t.Context(), 10*time.Second).rows[0]; row.err != nil || row.messages != float64(sent) {
			t.Errorf("process %d: %v msg/s, %v, want %d", i, row.messages, row.err, sent)
		}
		_ = l.Close()
	}
}

// TestSampler_SilentSource_IsLeftAlone for some samples: it costs time.
func TestSampler_SilentSource_IsLeftAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "f")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	l := ipctest.MustListen(t, filepath.Join(folder, "1-1-silent.sock"))
	go func() { // Ends with the listener.
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
			asked <- struct{}{}
		}
	}()
	s := newSampler()
	s.folders = []string{folder}
	defer s.close()
	const patience = 200 * time.Millisecond // Enough to ask, even on a busy machine.
	for range 1 + failuresPause {
		taken := s.sample(t.Context(), patience)
		if len(taken.rows) != 1 || taken.rows[0].err == nil {
			t.Fatalf("a sample of %+v", taken.rows)
		}
	}
	ipctest.Await(t, "the first question", asked)
	if len(asked) > 0 {
		t.Errorf("it was asked %d times more", len(asked))
	}
	s.sample(t.Context(), patience)
	ipctest.Await(t, "another question", asked)
}
