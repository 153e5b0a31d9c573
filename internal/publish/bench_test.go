// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

// BenchmarkSnapshot is what one look at a Writer costs, both sides together.
func BenchmarkSnapshot(b *testing.B) {
	b.Setenv("XDG_RUNTIME_DIR", b.TempDir())
	w, err := udsipc.NewWriter(ipctest.SocketPath(b), udsipc.WithPublishedMetrics("w"))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	folder, err := publish.Folder()
	if err != nil {
		b.Fatal(err)
	}
	found, err := publish.Find(folder)
	if err != nil || len(found) != 1 {
		b.Fatal(found, err)
	}
	client, err := found[0].Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for b.Loop() {
		if _, err := client.Next(patience); err != nil {
			b.Fatal(err)
		}
	}
}
