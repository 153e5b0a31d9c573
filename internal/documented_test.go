// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file compares the tables of docs/ARCHITECTURE.md with the code.

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented returns the tables of ARCHITECTURE.md: for each heading, the cells of its rows without backquotes.
func documented(t *testing.T) map[string][][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, heading := map[string][][]string{}, ""
	for line := range strings.Lines(strings.ReplaceAll(string(text), "`", "")) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(name)
		}
		if row := strings.TrimSpace(line); strings.HasPrefix(row, "|") {
			cells := strings.Split(strings.Trim(row, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			tables[heading] = append(tables[heading], cells)
		}
	}
	return tables
}

// TestDocumentedPackages: the table of packages has each with what it may import, below those.
func TestDocumentedPackages(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range documented(t)["Packages"] {
		if len(row) != 4 {
			continue
		}
		name := row[0]
		if name == "udsipc (root)" {
			name = "/"
		}
		rule, known := imports[name]
		if !known {
			continue // The heads of the table.
		}
		seen[name] = true
		var names []string
		for _, path := range strings.Fields(rule) {
			if !seen[path] {
				t.Errorf("%s stands above %s, which it imports", name, path)
			}
			names = append(names, strings.Replace(strings.TrimPrefix(path, "internal/"), "/", "udsipc", 1))
		}
		got := strings.Fields(row[3])
		slices.Sort(got)
		slices.Sort(names)
		if name != "/" && !slices.Equal(got, names) {
			t.Errorf("%s: the table says that it may import %v, the rule %v", name, got, names)
		}
	}
	for name := range imports {
		if !seen[name] {
			t.Errorf("the table has no row for %s", name)
		}
	}
}

// TestDocumentedGoroutines: the table of goroutines has each function that starts some, with the
// number if a function starts several.
func TestDocumentedGoroutines(t *testing.T) {
	count := map[string]int{}
	eachFunction(t, func(name string, body ast.Node) {
		ast.Inspect(body, func(n ast.Node) bool {
			call, _ := n.(*ast.CallExpr)
			_, started := n.(*ast.GoStmt)
			if call != nil && len(call.Args) == 1 {
				selector, ok := call.Fun.(*ast.SelectorExpr)
				started = ok && selector.Sel.Name == "Go"
			}
			if started {
				count[name]++
			}
			return true
		})
	})
	want := map[string]bool{}
	for name, n := range count {
		if n > 1 {
			name += fmt.Sprintf(" (%d)", n)
		}
		want[name] = true
	}
	compareColumn(t, "Goroutines", want)
}

// TestDocumentedLocks: the table of locks has each mutex.
func TestDocumentedLocks(t *testing.T) {
	want := map[string]bool{}
	for _, file := range sources(t) {
		if slices.Contains(testOnly, file.dir) {
			continue
		}
		ast.Inspect(file.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				addLocks(want, file.syntax.Name.Name+"."+n.Name.Name, n.Type)
			case *ast.ValueSpec:
				addLocks(want, file.syntax.Name.Name+"."+n.Names[0].Name, n.Type)
			}
			return true
		})
	}
	compareColumn(t, "Locks", want)
}

func addLocks(locks map[string]bool, name string, typ ast.Expr) {
	structure, ok := typ.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range structure.Fields.List {
		selector, ok := field.Type.(*ast.SelectorExpr)
		if !ok || selector.Sel.Name != "Mutex" && selector.Sel.Name != "RWMutex" {
			continue
		}
		for _, id := range field.Names {
			locks[name+"."+id.Name] = true
		}
	}
}

// eachFunction calls visit with each function of the library: package.Type.Method or package.Function.
func eachFunction(t *testing.T, visit func(name string, body ast.Node)) {
	t.Helper()
	for _, file := range sources(t) {
		if slices.Contains(testOnly, file.dir) {
			continue
		}
		for _, declaration := range file.syntax.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			name := file.syntax.Name.Name + "."
			if function.Recv != nil {
				receiver := function.Recv.List[0].Type
				if pointer, ok := receiver.(*ast.StarExpr); ok {
					receiver = pointer.X
				}
				if id, ok := receiver.(*ast.Ident); ok {
					name += id.Name + "."
				}
			}
			visit(name+function.Name.Name, function.Body)
		}
	}
}

// compareColumn compares the first column of the table below a heading, without its head.
func compareColumn(t *testing.T, heading string, want map[string]bool) {
	t.Helper()
	got := map[string]bool{}
	for _, row := range documented(t)[heading] {
		if strings.Contains(row[0], ".") {
			got[row[0]] = true
		}
	}
	for name := range want {
		if !got[name] {
			t.Errorf("%s of ARCHITECTURE.md has no row for %s", heading, name)
		}
	}
	for name := range got {
		if !want[name] {
			t.Errorf("%s of ARCHITECTURE.md has a row for %s, the code has none", heading, name)
		}
	}
}

// TestDocumentedFiles: each Go file that ARCHITECTURE.md or a comment names exists.
func TestDocumentedFiles(t *testing.T) {
	var paths []string
	for _, file := range sources(t) {
		paths = append(paths, filepath.ToSlash(strings.TrimPrefix(file.name, "..")))
	}
	for _, pattern := range []string{"../*_test.go", "../*/*_test.go", "../*/*/*_test.go"} {
		tests, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range tests {
			paths = append(paths, strings.TrimPrefix(filepath.ToSlash(path), ".."))
		}
	}
	fileName := regexp.MustCompile(`\b[a-z][a-z_/]*\.go\b`)
	check := func(where, text string) {
		for _, name := range fileName.FindAllString(text, -1) {
			if !slices.ContainsFunc(paths, func(path string) bool { return strings.HasSuffix(path, "/"+name) }) {
				t.Errorf("%s names %s, which does not exist", where, name)
			}
		}
	}
	page, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	check("ARCHITECTURE.md", string(page))
	for _, file := range sources(t) {
		for _, group := range file.comments(t) {
			check(file.name, group)
		}
	}
}

// comments returns the comments of a file, which sources leaves out.
func (f sourceFile) comments(t *testing.T) (list []string) {
	t.Helper()
	syntax, err := parser.ParseFile(token.NewFileSet(), f.name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range syntax.Comments {
		list = append(list, group.Text())
	}
	return list
}
