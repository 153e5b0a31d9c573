// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary take the roles that the program gives itself.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestConduct_EveryLine_Arrives(t *testing.T) {
	dir := t.TempDir()
	lines := 0
	for i := range 7 {
		text := strings.Repeat(fmt.Sprintf("line of file %d\n", i), 3000*i)
		lines += 3000 * i
		if i == 3 {
			text += "no newline at the end"
			lines++
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, source := range []string{dir, filepath.Join(dir, "6")} {
		var out, shown bytes.Buffer
		if err := conduct(context.Background(), source, &out, &display{out: &shown}); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		want := lines
		if source != dir {
			want = 3000 * 6
		}
		for _, row := range []string{
			fmt.Sprintf(`lines +%d\n`, want), `restarts of the collector +[1-9]`, `the same at both ends`,
			`dropped +0\n`, `\nEvery line arrived once, in order\.\n$`,
		} {
			if !regexp.MustCompile(row).MatchString(out.String()) {
				t.Errorf("the table has no %q:\n%s", row, &out)
			}
		}
		for _, row := range []string{
			`socket +\S+collector\.sock\n`, `writers +pids \d+, \d+, \d+\n`, `collector +pid \d+\n`,
			`collector +pid \d+ stopped after \d+ lines; restart 1: pid \d+ goes on\n`,
		} {
			if !regexp.MustCompile(row).MatchString(shown.String()) {
				t.Errorf("what was shown has no %q:\n%s", row, &shown)
			}
		}
	}
}

func TestCompare_Differences_AreErrors(t *testing.T) {
	var want written
	var got collected
	for writer := range byte(writers) {
		for number := range uint64(10) {
			message := appendLine(nil, writer, number, []byte("line"))
			want.add(message, []byte("line"))
			got.take(message)
		}
	}
	if err := compare(want, got); err != nil {
		t.Fatal(err)
	}
	message := func(number uint64) []byte { return appendLine(nil, 1, number, []byte("line")) }
	for name, spoil := range map[string]func(want *written, got *collected){
		"lost":       func(want *written, _ *collected) { want.add(message(10), []byte("line")) },
		"repeated":   func(_ *written, got *collected) { got.take(message(9)) },
		"reordered":  func(_ *written, got *collected) { got.take(message(11)); got.take(message(10)) },
		"changed":    func(_ *written, got *collected) { got.Sum++ },
		"dropped":    func(want *written, _ *collected) { want.Dropped++ },
		"not a line": func(_ *written, got *collected) { got.take([]byte{1}) },
		"stranger":   func(_ *written, got *collected) { got.take(appendLine(nil, 99, 0, nil)) },
	} {
		w, g := want, got
		spoil(&w, &g)
		var out bytes.Buffer
		if err := new(run).report(&out, w, g); err == nil || strings.Contains(out.String(), "arrived once") {
			t.Errorf("%s: got %v and\n%s", name, err, &out)
		}
	}
}

func TestConduct_EmptyFolder_IsError(t *testing.T) {
	if err := conduct(context.Background(), t.TempDir(), io.Discard, &display{out: io.Discard}); err == nil {
		t.Error("an empty directory is streamed")
	}
}

// TestDisplay_Terminal_RedrawsBar: on a terminal the bar is one line that is drawn again; a sentence takes its place.
func TestDisplay_Terminal_RedrawsBar(t *testing.T) {
	var out bytes.Buffer
	show := &display{out: &out, terminal: true}
	show.progress(1, 4, 1234)
	show.progress(2, 4, 2000) // Too early.
	show.say("restart")
	show.shownAt = show.shownAt.Add(-time.Hour)
	show.progress(4, 4, 5000)
	show.end()
	quarter := "[##########..............................]  25 %  1234 lines"
	whole := "[########################################] 100 %  5000 lines"
	blank := "\r" + strings.Repeat(" ", len(quarter)) + "\r"
	if want := "\r" + quarter + blank + "restart\n" + "\r" + whole + blank; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestDisplay_File_GetsLines(t *testing.T) {
	var out bytes.Buffer
	show := &display{out: &out}
	show.progress(0, 0, 0)
	show.end()
	if want := "  0 %  0 lines\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
