// SPDX-License-Identifier: Apache-2.0

package migrating_test

// This file compares the tables of docs/migrating with lists of the exported names of the other libraries.

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeSpan     = regexp.MustCompile("`([^`]+)`")
	exampleLink  = regexp.MustCompile(`\[(Example_\w+)\]\(([^)]+)\)`)
	exampleStart = regexp.MustCompile(`(?m)^func (Example_\w+)\(\)`)
)

// tableNames returns the names in the first column of a page's tables. Of NewServer(name) it has NewServer; a
// name that begins with a dot continues the one before: of `uds.Conn.Read`, `.Write` it has uds.Conn.Write.
func tableNames(t *testing.T, page string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for line := range strings.Lines(readPage(t, page)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " |")
		prefix := ""
		for _, span := range codeSpan.FindAllStringSubmatch(cell, -1) {
			name, _, _ := strings.Cut(span[1], "(")
			if strings.HasPrefix(name, ".") {
				name = prefix + name
			}
			if i := strings.LastIndexByte(name, '.'); i >= 0 {
				prefix = name[:i]
			}
			names[name] = true
		}
	}
	return names
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "migrating", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTables_ExportedNames_AreAllThere: each exported name of the other library is in a table.
func TestTables_ExportedNames_AreAllThere(t *testing.T) {
	for list, want := range map[string]struct {
		page  string
		count int
	}{
		"uds-ipc.txt":                 {"uds-ipc.md", 54},
		"golang-ipc.txt":              {"golang-ipc.md", 86},
		"golang-ipc-james-barrow.txt": {"golang-ipc.md", 40},
		"golib.txt":                   {"golib.md", 92},
		"domainsockets.txt":           {"domainsockets.md", 39},
	} {
		names := tableNames(t, want.page)
		text, err := os.ReadFile(filepath.Join("testdata", list))
		if err != nil {
			t.Fatal(err)
		}
		exported := strings.Fields(string(text))
		if len(exported) != want.count {
			t.Errorf("%s has %d names, want %d", list, len(exported), want.count)
		}
		for _, name := range exported {
			if !names[name] {
				t.Errorf("%s has no row for %s", want.page, name)
			}
		}
	}
}

// TestPages_Examples_Exist: each example that a page names is in the file that it links to, and each example
// is on a page.
func TestPages_Examples_Exist(t *testing.T) {
	linked := map[string]bool{}
	pages, err := filepath.Glob("../../docs/migrating/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, link := range exampleLink.FindAllStringSubmatch(readPage(t, filepath.Base(page)), -1) {
			linked[link[1]] = true
			file := filepath.Join(filepath.Dir(page), filepath.FromSlash(link[2]))
			if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "func "+link[1]+"()") {
				t.Errorf("%s: %s is not in %s (%v)", page, link[1], file, err)
			}
		}
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range exampleStart.FindAllStringSubmatch(string(text), -1) {
			if !linked[example[1]] {
				t.Errorf("no page has %s of %s", example[1], file)
			}
		}
	}
}
