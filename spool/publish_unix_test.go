// SPDX-License-Identifier: Apache-2.0

//go:build unix

package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_StopInCallbackOfStart_Returns: Start itself reports that the metrics cannot be published.
func TestWriter_StopInCallbackOfStart_Returns(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if err := os.WriteFile(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "udsipc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	var w atomic.Pointer[spool.Writer]
	stopped := make(chan error, 1)
	w.Store(p.open(spool.WithWriter(udsipc.WithPublishedMetrics("x"),
		udsipc.WithWriterErrorCallback(func(err error, _ string) {
			if op := (*udsipc.OpError)(nil); errors.As(err, &op) && op.Op == udsipc.OpPublish {
				stopped <- w.Load().Stop(limit(t))
			}
		}))))
	started := make(chan error, 1)
	go func() { started <- w.Load().Start() }()
	for name, done := range map[string]chan error{"Stop": stopped, "Start": started} {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s hangs", name)
		}
	}
}
