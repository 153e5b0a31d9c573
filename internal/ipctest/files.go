// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"os"
	"path/filepath"
	"testing"
)

// ProtocolDocument describes the wire format.
const ProtocolDocument = "docs/PROTOCOL.md"

// Document returns the text of the ProtocolDocument.
func Document(tb testing.TB) string {
	tb.Helper()
	return string(ReadFile(tb, ProtocolDocument))
}

// ReadFile reads a file of the module, whose name begins at the module's root.
func ReadFile(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(Root(tb), name))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// Root returns the module's directory, which is above that of the package under test.
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
