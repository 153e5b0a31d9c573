// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// source has a place for each kind of mutant.
const source = `package victim

import "errors"

const bound = 0x10

const _ = uint(bound - 7)

type state struct{ open bool; n int }

func (s *state) step(a, b int) (int, error) {
	if a < b && s.open {
		return 0, errors.New("no")
	}
	if s.n += a; !s.open {
		s.n, s.open = max(a, 1), true
	}
	_ = s.open
	return s.n - b, nil
}
`

// want are all mutants of source that are Go: function, line, and what it becomes.
var want = []string{
	"bound: const bound = 0x10 -> const bound = 15",
	"bound: const bound = 0x10 -> const bound = 17",
	"step: _ = s.open -> (removed)",
	"step: if a < b && s.open { -> if a < b && !s.open {",
	"step: if a < b && s.open { -> if a < b || s.open {",
	"step: if a < b && s.open { -> if a <= b && s.open {",
	"step: if a < b && s.open { -> if a >= b && s.open {",
	"step: if s.n += a; !s.open { -> if s.n += a; s.open {",
	"step: if s.n += a; !s.open { -> if s.n -= a; !s.open {",
	"step: if s.n += a; !s.open { … -> (removed)",
	`step: return 0, errors.New("no") -> return (-1), errors.New("no")`,
	`step: return 0, errors.New("no") -> return 1, errors.New("no")`,
	"step: return s.n - b, nil -> return s.n + b, nil",
	"step: s.n += a -> (removed)",
	"step: s.n, s.open = max(a, 1), true -> (removed)",
	"step: s.n, s.open = max(a, 1), true -> _, s.open = max(a, 1), true",
	"step: s.n, s.open = max(a, 1), true -> s.n, _ = max(a, 1), true",
	"step: s.n, s.open = max(a, 1), true -> s.n, s.open = max(a, 0), true",
	"step: s.n, s.open = max(a, 1), true -> s.n, s.open = max(a, 1), false",
	"step: s.n, s.open = max(a, 1), true -> s.n, s.open = max(a, 2), true",
	"step: s.n, s.open = max(a, 1), true -> s.n, s.open = min(a, 1), true",
}

// TestChoose_FindsAllThatCompile: all that compile, and no other.
func TestChoose_FindsAllThatCompile(t *testing.T) {
	p := victim(t, source, "")
	chosen, _ := choose(p, nil, options{files: "*.go"})
	var got []string
	for _, m := range chosen {
		got = append(got, m.function+": "+m.before+" -> "+m.after)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestChoose_SameSeed_GivesSameSample: a seed gives the same mutants again, and another one gives others.
func TestChoose_SameSeed_GivesSameSample(t *testing.T) {
	p := victim(t, source, "")
	sample := func(seed uint64) (all string) {
		chosen, _ := choose(p, nil, options{files: "*.go", seed: seed, n: 5})
		for _, m := range chosen {
			all += m.String() + "\n"
		}
		return all
	}
	if first := sample(1); first != sample(1) || first == sample(2) || strings.Count(first, "\n") != 5 {
		t.Errorf("seed 1 gives %s, again %s, seed 2 %s", first, sample(1), sample(2))
	}
}

// TestRun_CountsResults tries mutants that are noticed, that survive, and that never end.
func TestRun_CountsResults(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles each mutant")
	}
	p := victim(t, `package victim

func Sum(n int) (sum int) {
	for i := 1; i <= n; i++ {
		sum += i
	}
	return sum
}

func Unseen() bool { return true }
`, `package victim

import "testing"

func TestSum(t *testing.T) {
	if got := Sum(4); got != 10 {
		t.Fatal(got)
	}
}
`)
	o := options{files: "*.go", tests: "*_test.go", timeout: time.Second, memory: 4096, workers: 2, short: true, least: 50}
	chosen, _ := choose(p, nil, o)
	r, err := newRunner(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.baseline(); err != nil {
		t.Fatal(err)
	}
	s := r.all(chosen)
	// The sum from 0 on is the same.
	if s.err != nil || s.broken != 0 || s.survived != 2 || s.killed != len(chosen)-2 {
		t.Errorf("%+v of %d", s, len(chosen))
	}
	if o.least = 100; s.verdict(o) == nil {
		t.Error("a score of less than 100 % is good enough")
	}
}

// TestRun_Inside_AsksTestsOfPackageFirst: what those miss, the others notice.
func TestRun_Inside_AsksTestsOfPackageFirst(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles each mutant")
	}
	p := victim(t, `package victim

func Seen() bool { return true }

func SeenOutside() bool { return true }

func Unseen() bool { return true }
`, `package victim

import "testing"

func TestSeen(t *testing.T) {
	if !Seen() {
		t.Fatal()
	}
}
`)
	outside := filepath.Join(p.dir, "outside_test.go")
	if err := os.WriteFile(outside, []byte(`package victim_test

import (
	"testing"

	"victim"
)

func TestSeenOutside(t *testing.T) {
	if !victim.Seen() || !victim.SeenOutside() {
		t.Fatal()
	}
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := load(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	o := options{files: "*.go", tests: "*_test.go", timeout: time.Second, memory: 4096, workers: 1, short: true,
		inside: true}
	r, err := newRunner(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.baseline(); err != nil || len(r.stages) != 2 {
		t.Fatalf("%d stages, %v", len(r.stages), err)
	}
	for _, m := range p.mutants {
		result, err := r.try(&m, "1")
		if want := map[string]string{"Seen": "TestSeen", "SeenOutside": "TestSeenOutside"}[m.function]; err != nil ||
			result.by != want {
			t.Errorf("%v is noticed by %q, want %q: %v", m, result.by, want, err)
		}
	}
}

func TestEquivalents_Parse(t *testing.T) {
	e, err := parseEquivalents("# About.\n\na.go Take\n- x < y {\n+ x <= y " +
		"{\nBecause.\n\nb.go,d/b.go warm\n- *\n+ *\nSpeed.\n\nc.go put\n- z++\n+ *\nFor now.\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		m    mutant
		want bool
	}{
		{mutant{name: "a.go", function: "take", before: "X < y {", after: "x <= y {"}, true},
		{mutant{name: "a.go", function: "take", before: "x < y {", after: "x >= y {"}, false},
		{mutant{name: "a.go", function: "give", before: "x < y {", after: "x <= y {"}, false},
		{mutant{name: "b.go", function: "warm", before: "q", after: "r"}, true},
		{mutant{name: "d/b.go", function: "warm", before: "q", after: "r"}, true},
		{mutant{name: "c.go", function: "put", before: "z++", after: "z--"}, true},
		{mutant{name: "c.go", function: "put", before: "y++", after: "y--"}, false},
	} {
		if got := e.has(test.m); got != test.want {
			t.Errorf("%v: %v", test.m, got)
		}
	}
	p := &pkg{mutants: []mutant{
		{name: "a.go", function: "take", before: "x < y {", after: "x <= y {"},
		{name: "c.go", function: "put", before: "y++", after: "y--"},
	}}
	if got := e.stale(p); !slices.Equal(got, []string{"c.go | put | z++ | *"}) {
		t.Errorf("stale are %q", got)
	}
	if _, err := parseEquivalents("a.go take\n- x\n+ y\n"); err == nil {
		t.Error("an entry needs no reason")
	}
	if _, err := parseEquivalents(equivalentText); err != nil {
		t.Error(err)
	}
}

// victim is a package of a module of its own.
func victim(t *testing.T, text, test string) *pkg {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module victim\n\ngo 1.25\n", "victim.go": text, "victim_test.go": test,
	} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	p, err := load(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
