// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"os"
	"path/filepath"
	"testing"
)

// ProtocolDocument is the file that describes the wire format.
const ProtocolDocument = "docs/PROTOCOL.md"

// Document returns the text of ProtocolDocument.
func Document(tb testing.TB) string {
	tb.Helper()
	return string(ReadFile(tb, ProtocolDocument))
}

// ReadFile returns the content of a file of the module; name is relative to the module's root.
func ReadFile(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(Root(tb), name))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// Root returns the root directory of the module.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		above := filepath.Dir(dir)
		if above == dir {
			tb.Fatal("the tests do not run in a directory of the module")
		}
		dir = above
	}
	return dir
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
