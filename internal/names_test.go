// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file checks the names of this library in the text of the documentation.

import (
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namePattern is a package of this library with a name of it, and perhaps a member.
var namePattern = regexp.MustCompile(`\b(udsipc|duplex|rpc|codec|sloghandler|spool)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`)

// bareNamePattern is an option, an error or an operation of package udsipc without it.
var bareNamePattern = regexp.MustCompile("^`((?:With|Err|Op|Overflow)[A-Z]\\w*)[`(]")

// TestNames_Documentation_Exist: a name in backquotes, such as `duplex.Server.OnConnect`, is exported by its package.
func TestNames_Documentation_Exist(t *testing.T) {
	set := token.NewFileSet()
	var paths []string
	for dir := range imports {
		if !strings.HasPrefix(dir, "internal/") {
			paths = append(paths, path.Join(module, dir))
		}
	}
	slices.Sort(paths)
	importer := exportData(t, set, paths)
	packages := map[string]*types.Package{}
	for _, p := range paths {
		imported, err := importer.Import(p)
		if err != nil {
			t.Fatal(err)
		}
		packages[imported.Name()] = imported
	}
	checked := 0
	for _, page := range pages(t) {
		if filepath.Base(page) == "CHANGELOG.md" {
			continue // It has names that were removed.
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(filepath.ToSlash(page), "../docs/migrating/") && strings.HasPrefix(line, "| ") {
				_, line, _ = strings.Cut(line[2:], " | ") // The first column has names of another library.
			}
			for _, span := range regexp.MustCompile("`[^`]+`").FindAllString(line, -1) {
				if name := bareNamePattern.FindStringSubmatch(span); name != nil {
					checked++
					if !slices.ContainsFunc(paths, func(p string) bool {
						return exported(packages[path.Base(p)], name[1], "")
					}) {
						t.Errorf("%s: there is no %s", page, name[1])
					}
				}
				for _, name := range namePattern.FindAllStringSubmatch(span, -1) {
					checked++
					if !exported(packages[name[1]], name[2], name[3]) {
						t.Errorf("%s: there is no %s", page, name[0])
					}
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("there are %d names", checked)
	}
}

// exported reports whether a package has a name, and its type a method or a field called member.
func exported(in *types.Package, name, member string) bool {
	object := in.Scope().Lookup(name)
	if object == nil || member == "" {
		return object != nil
	}
	found, _, _ := types.LookupFieldOrMethod(object.Type(), true, in, member)
	return found != nil
}
