// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers say what each room knows, from the top down: a file may use what is declared in its own
// layer and in those below it.
var layers = [][]string{
	{"writer.go", "writer_wait.go", "connect.go", "drain.go", "drain_session.go", "reader.go", "reader_stop.go", "accept.go", "serve.go", "serve_deliver.go", "serve_session.go", "memory.go", "listener.go", "link.go", "link_run.go", "supervise.go", "watchdog.go", "status.go", "handover.go", "takeover.go", "handover_state.go"},
	{"conn.go", "constants.go", "conn_kind.go", "conn_send.go", "conn_close.go", "dial.go", "conn_read.go", "conn_buffer.go", "conn_wait.go", "conn_end.go", "conn_verdict.go", "conn_write.go", "trust.go", "goodbye.go", "session.go", "session_read.go", "session_write.go"},
	{"framing.go", "queue.go", "queue_push.go", "queue_take.go", "queue_drop.go", "queue_acks.go", "queue_wait.go", "queue_end.go", "queue_segments.go", "queue_shared.go", "pool.go", "budget.go"},
	{"address.go", "socket.go", "folder.go", "peer.go", "getsockopt.go", "delivery.go", "systemd.go", "systemd_notify.go", "systemd_store.go"},
	{"options.go", "options_reader.go", "options_systemd.go", "config.go", "metrics.go", "histogram.go", "errors.go"},
}

// exceptions are the uses that go up, each with its reason.
var exceptions = map[string]string{
	"config.go uses parseAddress":     "options are checked together with the address",
	"options.go uses State":           "the callback gets what the Writer is",
	"options_reader.go uses Delivery": "the callback gets what a handler gets",
	"config.go uses Delivery":         "the callback gets what a handler gets",
	"options.go uses Peer":            "the callback gets who it is",
	"config.go uses Peer":             "the callback gets who it is",
	"config.go uses State":            "the callback gets what the Writer is",
	"metrics.go uses Writer":          "the methods that take the snapshots",
	"metrics.go uses Reader":          "the methods that take the snapshots",
	"metrics.go uses StateConnected":  "the methods that take the snapshots",
}

// forbidden are the imports that the package leaves to its users.
var forbidden = []string{"log", "log/slog", "flag", "net/http", "expvar", "os/signal"}

func layerOf(name string) int {
	for _, suffix := range []string{"_linux", "_darwin", "_freebsd", "_bsd", "_unix", "_other", "_nonunix", "_socketcall"} {
		name = strings.Replace(name, suffix+".go", ".go", 1)
	}
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, name) })
}

func TestLayers(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	declared := map[string]string{} // Where each package-level name is.
	set := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if layerOf(name) < 0 {
			t.Errorf("%s is in no layer", name)
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
		for _, declaration := range topLevel(file) {
			if declaration != "_" {
				declared[declaration] = name
			}
		}
	}
	used := map[string]bool{}
	for name, file := range files {
		checkImports(t, name, file)
		for _, use := range uses(file) {
			home, ok := declared[use]
			if !ok || layerOf(home) >= layerOf(name) {
				continue
			}
			what := name + " uses " + use
			if used[what] = true; exceptions[what] == "" {
				t.Errorf("%s, which is in %s, a layer above", what, home)
			}
		}
	}
	for what := range exceptions {
		if !used[what] {
			t.Errorf("the exception %q is not needed any more", what)
		}
	}
}

func checkImports(t *testing.T, name string, file *ast.File) {
	t.Helper()
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if slices.Contains(forbidden, path) || strings.Contains(path, ".") {
			t.Errorf("%s imports %s", name, path)
		}
	}
	if strings.HasPrefix(name, "systemd") {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
			switch selector.Sel.Name {
			case "Getenv", "LookupEnv", "Environ", "Setenv", "Unsetenv":
				t.Errorf("%s reads the environment", name)
			case "Fd", "File":
				t.Errorf("%s calls %s, which makes a socket blocking", name, selector.Sel.Name)
			}
		}
		return true
	})
}

// topLevel returns the names that a file declares for the package, methods aside.
func topLevel(file *ast.File) (names []string) {
	for _, declaration := range file.Decls {
		switch declaration := declaration.(type) {
		case *ast.FuncDecl:
			if declaration.Recv == nil {
				names = append(names, declaration.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range declaration.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// uses returns the names in a file that may be the package's: not those after a dot, not the keys of
// composite literals, not its fields, parameters and local variables.
func uses(file *ast.File) (names []string) {
	skip := map[*ast.Ident]bool{}
	local := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			skip[n.Sel] = true
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				skip[key] = true
			}
		case *ast.Field:
			for _, name := range n.Names {
				skip[name] = true
				local[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, left := range n.Lhs {
					if name, ok := left.(*ast.Ident); ok {
						local[name.Name] = true
					}
				}
			}
		}
		return true
	})
	ast.Inspect(file, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok && !skip[name] && !local[name.Name] {
			names = append(names, name.Name)
		}
		return true
	})
	return names
}

// TestNoDependency: the core requires nothing.
func TestNoDependency(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "require") {
		t.Errorf("go.mod requires something:\n%s", mod)
	}
}
