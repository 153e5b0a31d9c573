// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file checks where the documentation of packages stands, and that their types have examples.

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

// TestExamples_MainTypes_AreUsed: an example uses each exported type that has a state of its own and methods: it
// names the type, or calls what returns it.
func TestExamples_MainTypes_AreUsed(t *testing.T) {
	for _, dir := range public(t) {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		used, opaque := map[string]bool{}, map[string]bool{}
		sources := map[string][]string{} // Of a type: the functions that return it.
		methods := map[string]bool{}
		for _, name := range names {
			syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if base := filepath.Base(name); strings.HasPrefix(base, "example") {
				ast.Inspect(syntax, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						used[id.Name] = true
					}
					return true
				})
			} else if !strings.HasSuffix(base, "_test.go") {
				for _, declaration := range syntax.Decls {
					addDeclaration(declaration, opaque, methods, sources)
				}
			}
		}
		for name := range opaque {
			if methods[name] && !used[name] && !slices.ContainsFunc(sources[name], func(f string) bool { return used[f] }) {
				t.Errorf("%s: no example uses the type %s", dir, name)
			}
		}
	}
}

// addDeclaration adds an exported struct type without exported fields to opaque, the type of an exported method to
// methods, and an exported function to the sources of what it returns.
func addDeclaration(declaration ast.Decl, opaque, methods map[string]bool, sources map[string][]string) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return
		}
		if d.Recv != nil {
			methods[typeName(d.Recv.List[0].Type)] = true
		}
		if d.Type.Results != nil {
			result := typeName(d.Type.Results.List[0].Type)
			sources[result] = append(sources[result], d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			spec, ok := spec.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				continue
			}
			structure, ok := spec.Type.(*ast.StructType)
			if ok && !slices.ContainsFunc(structure.Fields.List, func(f *ast.Field) bool {
				return slices.ContainsFunc(f.Names, (*ast.Ident).IsExported)
			}) {
				opaque[spec.Name.Name] = true
			}
		}
	}
}

// typeName returns the name of a type of the package, without pointers and type parameters.
func typeName(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
