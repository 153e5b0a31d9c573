// SPDX-License-Identifier: Apache-2.0

// Package internal_test holds the rules of what each package of the module may know.
package internal_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/udsipc/udsipc"

// imports lists the packages of the module that each package may import. The root is "/". A package that is not
// listed fails. There are no exceptions.
var imports = map[string]string{
	"internal/errdefs":   "",
	"internal/buffers":   "",
	"internal/peercred":  "internal/errdefs",
	"internal/wire":      "internal/errdefs",
	"internal/latency":   "",
	"internal/disk":      "",
	"internal/segment":   "internal/wire",
	"internal/journal":   "internal/disk internal/latency internal/segment internal/wire",
	"internal/queue":     "internal/errdefs internal/buffers internal/latency internal/wire",
	"internal/socket":    "internal/errdefs",
	"internal/systemd":   "internal/errdefs",
	"internal/transport": "internal/errdefs internal/buffers internal/wire internal/peercred",
	"internal/sender":    "internal/errdefs internal/queue internal/wire internal/transport",
	"internal/receiver": "internal/errdefs internal/wire internal/transport internal/socket internal/systemd " +
		"internal/peercred",
	"internal/publish": "internal/errdefs internal/peercred internal/socket internal/systemd",
	"/": "internal/errdefs internal/latency internal/wire internal/queue internal/socket internal/peercred " +
		"internal/transport internal/systemd internal/sender internal/receiver internal/publish internal/seam",
	"internal/seam":     "",
	"internal/terminal": "",
	"internal/inspect":  "internal/errdefs internal/peercred internal/socket internal/wire",
	"codec":             "/",
	"duplex":            "/ internal/seam",
	"rpc":               "/ duplex codec internal/seam",
	"sloghandler":       "",
	"spool":             "/ internal/disk internal/journal internal/seam internal/segment internal/wire",
}

// testOnly are packages that only tests and tools use.
var testOnly = []string{"internal/ipctest", "internal/mutate", "internal/disktest", "internal/conform"}

// mayLog are the only files of the library that may import log/slog: the one with WithLogger and all lines, and the
// handler of it.
var mayLog = []string{"../log.go", "../sloghandler/handler.go"}

// forbidden lists standard packages that the library leaves to its users.
var forbidden = []string{"log", "log/slog", "flag", "net/http", "expvar", "os/signal", "reflect"}

// without lists what the lowest packages do not need: they hold no sockets.
var without = map[string][]string{
	"internal/errdefs": {"net", "os", "syscall", "unsafe", "time"},
	"internal/buffers": {"net", "os", "syscall", "unsafe", "time"},
	"internal/wire":    {"net", "os", "syscall", "unsafe"},
	"internal/latency": {"net", "os", "syscall", "unsafe"},
	"internal/queue":   {"net", "os", "syscall", "unsafe"},
	"internal/segment": {"net", "os", "syscall", "unsafe", "time"},
}

// unsafeIn lists the packages that make system calls of their own.
var unsafeIn = []string{"internal/peercred", "internal/socket", "internal/transport", "internal/systemd",
	"internal/terminal"}

// goroutines counts the go statements of each package that has any.
var goroutines = map[string]int{
	"duplex": 2, "rpc": 3, "spool": 4,
	"internal/publish": 2, "internal/queue": 1, "internal/receiver": 4,
	"internal/sender": 5, "internal/systemd": 1, "internal/transport": 1,
}

type sourceFile struct {
	name, dir string
	syntax    *ast.File
}

// sources parses the module's files, tests and other modules aside.
func sources(t *testing.T) (files []sourceFile) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && skipped(path):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		syntax, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		dir := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		if dir == "." {
			dir = "/"
		}
		files = append(files, sourceFile{path, dir, syntax})
		return err
	})
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

// skipped reports whether a directory is no part of the library: a module of its own, examples, tools, test data.
func skipped(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "examples" || name == "cmd" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

func TestLayers_Imports_GoOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range sources(t) {
		if slices.Contains(testOnly, file.dir) {
			continue
		}
		allowed, known := imports[file.dir]
		if seen[file.dir] = true; !known {
			t.Errorf("%s: the package %s has no rule", file.name, file.dir)
		}
		for _, spec := range file.syntax.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			own, inModule := strings.CutPrefix(path, module)
			switch {
			case inModule && !slices.Contains(strings.Fields(allowed), "/"+own) &&
				!slices.Contains(strings.Fields(allowed), strings.TrimPrefix(own, "/")):
				t.Errorf("%s imports %s", file.name, path)
			case !inModule && strings.Contains(path, "."):
				t.Errorf("%s imports %s, which is not in the standard library", file.name, path)
			case path == "log/slog" && slices.Contains(mayLog, file.name):
			case slices.Contains(forbidden, path), slices.Contains(without[file.dir], path):
				t.Errorf("%s imports %s", file.name, path)
			case path == "unsafe" && !slices.Contains(unsafeIn, file.dir):
				t.Errorf("%s imports unsafe", file.name)
			}
		}
	}
	for dir := range imports {
		if !seen[dir] {
			t.Errorf("the package %s has a rule, and no file", dir)
		}
	}
}

func TestLayers_Calls_AreAllowed(t *testing.T) {
	started := map[string]int{}
	for _, file := range sources(t) {
		if slices.Contains(testOnly, file.dir) {
			continue
		}
		ast.Inspect(file.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				started[file.dir]++
			case *ast.TypeSpec:
				if n.Assign.IsValid() && file.dir == "/" {
					t.Errorf("%s: %s is an alias: go doc shows neither its fields nor its methods", file.name, n.Name)
				}
			case *ast.CallExpr:
				if selector, ok := n.Fun.(*ast.SelectorExpr); ok && file.dir != "internal/systemd" {
					checkCall(t, file.name, selector.Sel.Name)
				}
			}
			return true
		})
	}
	if !maps.Equal(started, goroutines) {
		t.Errorf("go statements by package: %v, want %v: ARCHITECTURE.md lists each goroutine", started, goroutines)
	}
}

func checkCall(t *testing.T, name, call string) {
	t.Helper()
	switch call {
	case "Getenv", "LookupEnv", "Environ", "Setenv", "Unsetenv":
		t.Errorf("%s reads the environment", name)
	case "Fd", "File":
		t.Errorf("%s calls %s, which makes a socket blocking", name, call)
	}
}

// forTool lists the internal packages that are there for the tool. It uses no others.
var forTool = []string{"internal/inspect", "internal/publish", "internal/terminal", "internal/conform"}

// TestModule_RequiresNothing: the core requires nothing, and neither another module of the repository nor the tool
// uses its internal packages, except those for the tool. Tests may use
// helpers of tests.
func TestModule_RequiresNothing(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "require") {
		t.Errorf("go.mod requires something:\n%s", mod)
	}
	for _, dir := range []string{"../benchmarks", "../contrib", "../cmd"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") ||
				strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, name := range forTool {
				if dir == "../cmd" {
					b = bytes.ReplaceAll(b, []byte(`"`+module+"/"+name+`"`), nil)
				}
			}
			if bytes.Contains(b, []byte(module+"/internal/")) {
				t.Errorf("%s imports an internal package", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
