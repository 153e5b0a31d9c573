// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
		var out bytes.Buffer
		if err := conduct(context.Background(), source, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		want := lines
		if source != dir {
			want = 3000 * 6
		}
		for _, row := range []string{
			fmt.Sprintf(`lines +%d\n`, want), `restarts +[1-9]`, `agrees at both ends`,
			`dropped +0\n`,
		} {
			if !regexp.MustCompile(row).MatchString(out.String()) {
				t.Errorf("the table has no %q:\n%s", row, &out)
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
		if spoil(&w, &g); compare(w, g) == nil {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
}

func TestConduct_EmptyFolder_IsError(t *testing.T) {
	if err := conduct(context.Background(), t.TempDir(), &bytes.Buffer{}); err == nil {
		t.Error("an empty directory is streamed")
	}
}
