// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file type-checks the Go code in the documentation: every block that begins with ```go. A block is a
// program, declarations, or statements. What statements need from their surroundings is in a comment right
// above the block, which a browser does not show:
//
//	<!-- given: ctx context.Context, reader *udsipc.Reader -->
//
// Packages are imported by their names. The long part, compiling what is imported, is the build cache's.

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// known are the standard packages that fragments may use without an import.
var known = []string{
	"bufio", "context", "crypto/tls", "crypto/x509", "database/sql", "encoding/json", "errors", "expvar", "fmt", "io",
	"log", "log/slog", "net", "net/http", "os", "os/exec", "os/signal", "path/filepath", "strings", "sync", "syscall",
	"time",
}

// importable returns known and the public packages of the module.
func importable() []string {
	list := slices.Clone(known)
	for dir := range imports {
		if !strings.HasPrefix(dir, "internal/") {
			list = append(list, path.Join(module, dir))
		}
	}
	slices.Sort(list)
	return list
}

// A snippet is a block of Go code.
type snippet struct {
	page  string // The name of the file, from the root.
	line  int    // That of the first line of code.
	given string // The parameters of the function around it.
	text  string
}

func (s snippet) isProgram() bool { return strings.HasPrefix(s.text, "package ") }

// snippets returns the blocks of all pages.
func snippets(t *testing.T) (list []snippet) {
	t.Helper()
	for _, name := range pages(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, blocks(t, strings.TrimPrefix(filepath.ToSlash(name), "../"), string(text))...)
	}
	return list
}

func blocks(t *testing.T, page, text string) (list []snippet) {
	t.Helper()
	var open *snippet
	given := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case open != nil && line == "```":
			list = append(list, *open)
			open, given = nil, ""
		case open != nil:
			open.text += line + "\n"
		case line == "```go":
			open = &snippet{page: page, line: i + 2, given: given}
		case strings.HasPrefix(strings.TrimSpace(line), "```go"):
			t.Errorf("%s:%d: a block of Go is neither indented nor called anything but go", page, i+1)
		case strings.HasPrefix(line, "<!-- given: "):
			given = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- given: "), " -->")
		case line != "":
			given = ""
		}
	}
	return list
}

// source returns the snippet as a file, with the imports that it needs. Positions in it are those of the page.
func (s snippet) source() string {
	position := fmt.Sprintf("//line %s:%d\n", s.page, s.line)
	if s.isProgram() {
		return position + s.text
	}
	body := position + s.text
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+s.text, parser.SkipObjectResolution); err != nil {
		body = "func _(" + s.given + ") error {\n" + body + "return nil\n}\n"
	}
	header := "package p\n"
	syntax, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, parser.SkipObjectResolution)
	if err != nil {
		return header + body
	}
	used := map[string]bool{}
	ast.Inspect(syntax, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := selector.X.(*ast.Ident); ok {
				used[id.Name] = true
			}
		}
		return true
	})
	for _, imported := range importable() {
		if used[path.Base(imported)] {
			header += fmt.Sprintf("import %q\n", imported)
		}
	}
	return header + body
}

// TestSnippets_Documentation_TypeChecks checks each block. Programs may have no unused variable either.
func TestSnippets_Documentation_TypeChecks(t *testing.T) {
	list := snippets(t)
	set := token.NewFileSet()
	var files []*ast.File
	imported := []string{}
	for _, s := range list {
		syntax, err := parser.ParseFile(set, "", s.source(), parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
		}
		for _, spec := range syntax.Imports {
			imported = append(imported, strings.Trim(spec.Path.Value, `"`))
		}
		files = append(files, syntax)
	}
	slices.Sort(imported)
	config := types.Config{Importer: exportData(t, set, slices.Compact(imported))}
	for i, file := range files {
		program := list[i].isProgram()
		config.Error = func(err error) {
			if problem, ok := err.(types.Error); !ok || program || !problem.Soft {
				t.Error(err)
			}
		}
		_, _ = config.Check("p", set, []*ast.File{file}, nil) // Error gets all errors.
	}
	if len(list) < 8 {
		t.Errorf("there are %d blocks of Go", len(list))
	}
}

// exportData returns an importer of these packages and of all that they import.
func exportData(t *testing.T, set *token.FileSet, packages []string) types.Importer {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	output := goCommand(t, append(args, packages...)...)
	files := map[string]string{}
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) == 2 {
			files[fields[0]] = fields[1]
		}
	}
	return importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
}

// goCommand runs the go command in the root and returns its output.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command")
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, &stderr)
	}
	return string(output)
}
