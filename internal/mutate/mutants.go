// SPDX-License-Identifier: Apache-2.0

package main

// This file finds the mutants of a file.

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// A mutant replaces a piece of a file.
type mutant struct {
	path, name    string // Of the file: absolute, and within the module.
	function      string // The function or other declaration.
	line          int
	before, after string // The line; if several are removed, the first one.
	from, to      int
	text          string
}

// removed stands for the line of a mutant that removes a statement.
const removed = "(removed)"

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d %s: - %s + %s", m.name, m.line, m.function, m.before, m.after)
}

// apply returns the text of the file with the mutant.
func (m mutant) apply(text []byte) []byte {
	changed := append([]byte{}, text[:m.from]...)
	return append(append(changed, m.text...), text[m.to:]...)
}

// A finder collects the mutants of a file.
type finder struct {
	info       *types.Info
	file       *token.File
	text       []byte
	path, name string
	function   string
	negated    ast.Expr // The operand of a negation, which is not negated again.
	found      []mutant
}

// operators has the replacements of each operator.
var operators = map[token.Token][]token.Token{
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GEQ}, token.GEQ: {token.GTR, token.LSS},
	token.GTR: {token.GEQ, token.LEQ}, token.LEQ: {token.LSS, token.GTR},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.MUL},
	token.AND: {token.OR}, token.OR: {token.AND}, token.XOR: {token.AND}, token.AND_NOT: {token.AND},
	token.SHL: {token.SHR}, token.SHR: {token.SHL},
	token.ADD_ASSIGN: {token.SUB_ASSIGN}, token.SUB_ASSIGN: {token.ADD_ASSIGN},
	token.MUL_ASSIGN: {token.QUO_ASSIGN}, token.QUO_ASSIGN: {token.MUL_ASSIGN},
	token.AND_ASSIGN: {token.OR_ASSIGN}, token.OR_ASSIGN: {token.AND_ASSIGN},
	token.SHL_ASSIGN: {token.SHR_ASSIGN}, token.SHR_ASSIGN: {token.SHL_ASSIGN},
	token.INC: {token.DEC}, token.DEC: {token.INC},
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		return n.Names[0].Name != "_" // An assertion that the compiler checks.
	case *ast.BinaryExpr:
		f.operator(n.OpPos, n.Op)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.negated = n.X
			f.replace(n.OpPos, n.OpPos+1, "")
		}
	case *ast.BasicLit:
		f.number(n)
	case *ast.Ident, *ast.SelectorExpr:
		f.negate(n.(ast.Expr))
	case *ast.CallExpr:
		f.negate(n)
		f.extreme(n)
	case *ast.AssignStmt:
		f.assignment(n)
	case *ast.IncDecStmt:
		f.operator(n.TokPos, n.Tok)
		f.remove(n, "")
	case *ast.ExprStmt, *ast.SendStmt, *ast.DeferStmt, *ast.GoStmt, *ast.BranchStmt:
		f.remove(n, "")
	case *ast.IfStmt:
		f.remove(n, "{}") // It may follow an else.
	case *ast.ReturnStmt:
		f.results(n)
	}
	return true
}

// operator replaces an operator by each of its replacements.
func (f *finder) operator(at token.Pos, op token.Token) {
	for _, other := range operators[op] {
		f.replace(at, at+token.Pos(len(op.String())), other.String())
	}
}

// number increases and decreases an integer by one.
func (f *finder) number(n *ast.BasicLit) {
	value, err := strconv.ParseUint(n.Value, 0, 64)
	if n.Kind != token.INT || err != nil {
		return
	}
	f.replace(n.Pos(), n.End(), strconv.FormatUint(value+1, 10))
	if value == 0 {
		f.replace(n.Pos(), n.End(), "(-1)")
		return
	}
	f.replace(n.Pos(), n.End(), strconv.FormatUint(value-1, 10))
}

// negate negates a boolean expression; operator handles comparisons.
func (f *finder) negate(e ast.Expr) {
	t, ok := f.info.Types[e]
	if !ok || !t.IsValue() || e == f.negated {
		return
	}
	if basic, ok := t.Type.Underlying().(*types.Basic); !ok || basic.Info()&types.IsBoolean == 0 {
		return
	}
	if t.Value != nil && (t.Value.String() == "true" || t.Value.String() == "false") {
		f.replace(e.Pos(), e.End(), strconv.FormatBool(t.Value.String() == "false"))
		return
	}
	f.replace(e.Pos(), e.Pos(), "!")
}

// extreme exchanges min and max.
func (f *finder) extreme(call *ast.CallExpr) {
	name, ok := call.Fun.(*ast.Ident)
	if !ok || !f.info.Types[call.Fun].IsBuiltin() {
		return
	}
	if other := map[string]string{"min": "max", "max": "min"}[name.Name]; other != "" {
		f.replace(name.Pos(), name.End(), other)
	}
}

// assignment removes an assignment and, of several at once, each.
func (f *finder) assignment(n *ast.AssignStmt) {
	f.operator(n.TokPos, n.Tok)
	if name, ok := n.Lhs[0].(*ast.Ident); ok && len(n.Lhs) == 1 && name.Name == "_" {
		f.negated = n.Rhs[0] // Nobody looks at it.
	}
	if n.Tok == token.DEFINE {
		return
	}
	f.remove(n, "")
	for _, left := range n.Lhs {
		if name, ok := left.(*ast.Ident); len(n.Lhs) > 1 && !(ok && name.Name == "_") {
			f.replace(left.Pos(), left.End(), "_")
		}
	}
}

// results replaces each returned error by nil.
func (f *finder) results(n *ast.ReturnStmt) {
	if len(n.Results) == 0 {
		f.remove(n, "")
	}
	for _, result := range n.Results {
		t := f.info.Types[result]
		if t.Type != nil && !t.IsNil() && types.Identical(t.Type, types.Universe.Lookup("error").Type()) {
			f.replace(result.Pos(), result.End(), "nil")
		}
	}
}

// replace adds a mutant with text between two positions.
func (f *finder) replace(from, to token.Pos, text string) {
	m := f.at(from, to, text)
	start, end := f.lineBounds(m.from)
	last := min(m.to, end)
	m.before = strings.TrimSpace(string(f.text[start:end]))
	m.after = strings.TrimSpace(string(f.text[start:m.from]) + text + string(f.text[last:end]))
	f.found = append(f.found, m)
}

// remove adds a mutant with text instead of n.
func (f *finder) remove(n ast.Node, text string) {
	m := f.at(n.Pos(), n.End(), text)
	whole := string(f.text[m.from:m.to])
	line, _, more := strings.Cut(whole, "\n")
	if m.before, m.after = line, removed; more {
		m.before += " …"
	}
	f.found = append(f.found, m)
}

func (f *finder) at(from, to token.Pos, text string) mutant {
	return mutant{
		path: f.path, name: f.name, function: f.function, line: f.file.Line(from),
		from: f.file.Offset(from), to: f.file.Offset(to), text: text,
	}
}

// lineBounds returns the start and end of the line with this offset.
func (f *finder) lineBounds(offset int) (start, end int) {
	start = strings.LastIndexByte(string(f.text[:offset]), '\n') + 1
	end = strings.IndexByte(string(f.text[offset:]), '\n')
	if end < 0 {
		return start, len(f.text)
	}
	return start, offset + end
}
