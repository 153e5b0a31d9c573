// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file checks where the documentation of packages stands, and that their types have examples.

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// public returns the directories of the packages that users import, from this one.
func public(t *testing.T) (dirs []string) {
	t.Helper()
	for dir := range imports {
		if !strings.HasPrefix(dir, "internal/") {
			dirs = append(dirs, filepath.Join("..", dir))
		}
	}
	contributed, err := filepath.Glob("../contrib/*")
	if err != nil || len(contributed) == 0 {
		t.Fatal(contributed, err)
	}
	return append(dirs, contributed...)
}

// TestPackageComments_AreInDoc: the comment of a public package is in its doc.go, and nowhere else.
func TestPackageComments_AreInDoc(t *testing.T) {
	for _, dir := range public(t) {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "doc.go")); err != nil {
			t.Error(err)
		}
		for _, name := range names {
			syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			has := strings.HasPrefix(syntax.Doc.Text(), "Package ")
			if want := filepath.Base(name) == "doc.go"; has != want {
				t.Errorf("%s has a package comment: %v, want %v", name, has, want)
			}
		}
	}
}
