// SPDX-License-Identifier: Apache-2.0

package main

// This file loads the package that is changed: its files and types. It also checks whether a mutant
// compiles.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A pkg is a package as it is built for this platform, without its tests.
type pkg struct {
	path, dir string
	module    string // The directory of go.mod.
	tests     []string
	inside    []string // Of the tests, those that are files of the package itself and not of package x_test.
	set       *token.FileSet
	names     []string // Of the files, whole.
	files     []*ast.File
	texts     map[string][]byte // By name.
	config    types.Config
	mutants   []mutant
}

// A listed is a package in the output of go list.
type listed struct {
	ImportPath, Dir, Export            string
	GoFiles, TestGoFiles, XTestGoFiles []string
	DepOnly                            bool
	Module                             *struct{ Dir string }
}

// load loads and type-checks a package, and finds its mutants.
func load(ctx context.Context, pattern string) (*pkg, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-export", "-deps", "-json", pattern)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("mutate: go list %s: %w", pattern, err)
	}
	exports := map[string]string{}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(output)); ; {
		var l listed
		if err := d.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		exports[l.ImportPath] = l.Export
		if !l.DepOnly {
			all = append(all, l)
		}
	}
	if len(all) != 1 || all[0].Module == nil {
		return nil, fmt.Errorf("mutate: %s is %d packages of a module, want 1", pattern, len(all))
	}
	return newPkg(all[0], exports)
}

func newPkg(l listed, exports map[string]string) (*pkg, error) {
	p := &pkg{
		path: l.ImportPath, dir: l.Dir, module: l.Module.Dir,
		tests: slices.Concat(l.TestGoFiles, l.XTestGoFiles), inside: l.TestGoFiles,
		set: token.NewFileSet(), texts: map[string][]byte{},
	}
	for _, name := range l.GoFiles {
		name = filepath.Join(l.Dir, name)
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(p.set, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.names, p.files, p.texts[name] = append(p.names, name), append(p.files, file), text
	}
	p.config.Importer = importer.ForCompiler(p.set, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, errors.New("no export data of " + path)
		}
		return os.Open(exports[path])
	})
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := p.config.Check(p.path, p.set, p.files, info); err != nil {
		return nil, err
	}
	for i, file := range p.files {
		p.find(p.names[i], file, info)
	}
	return p, nil
}

// find adds the mutants of a file.
func (p *pkg) find(name string, file *ast.File, info *types.Info) {
	relative, err := filepath.Rel(p.module, name)
	if err != nil {
		relative = filepath.Base(name)
	}
	f := finder{
		info: info, file: p.set.File(file.Pos()), text: p.texts[name], path: name,
		name: filepath.ToSlash(relative),
	}
	for _, decl := range file.Decls {
		f.function = declared(decl)
		ast.Inspect(decl, f.visit)
	}
	p.mutants = append(p.mutants, f.found...)
}

// declared returns the name of the declared function, or of the first constant, variable or type.
func declared(decl ast.Decl) string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		return d.Name.Name
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				return s.Names[0].Name
			case *ast.TypeSpec:
				return s.Name.Name
			}
		}
	}
	return "imports"
}

// check returns an error if the package with m in it does not compile.
func (p *pkg) check(m mutant) error {
	files := make([]*ast.File, len(p.files))
	for i, name := range p.names {
		files[i] = p.files[i]
		if name == m.path {
			file, err := parser.ParseFile(p.set, name, m.apply(p.texts[name]), parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files[i] = file
		}
	}
	_, err := p.config.Check(p.path, p.set, files, nil)
	return err
}

// overlay writes an overlay for go build: the file of the mutant, and no test file that is not
// wanted.
func (p *pkg) overlay(m *mutant, wants func(test string) bool, dir string) (name string, err error) {
	replace := map[string]string{}
	for _, test := range p.tests {
		if !wants(test) {
			replace[filepath.Join(p.dir, test)] = ""
		}
	}
	if m != nil {
		changed := filepath.Join(dir, strings.ReplaceAll(m.name, "/", "_"))
		if err := os.WriteFile(changed, m.apply(p.texts[m.path]), 0o600); err != nil {
			return "", err
		}
		replace[m.path] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name = filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, text, 0o600)
}
