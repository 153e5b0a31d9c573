// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s differs from what the program writes (go test -update writes it anew):\n%s", path, got)
	}
}

// TestHelp_EachCommand_IsGolden: the help of a command is the same by help and by --help, and as it was.
func TestHelp_EachCommand_IsGolden(t *testing.T) {
	for _, c := range commands {
		if c.hidden {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			got := execute(t, nil, "help", c.name)
			if other := execute(t, nil, c.name, "--help"); got != other || got.code != exitOK || got.stderr != "" {
				t.Errorf("help %s: %+v, %s --help: %+v", c.name, got, c.name, other)
			}
			golden(t, "help/"+c.name+".txt", got.stdout)
		})
	}
}

// TestHelp_Texts_AreComplete: each command teaches: what it does, an example, and each flag.
func TestHelp_Texts_AreComplete(t *testing.T) {
	for _, c := range commands {
		if c.hidden {
			continue
		}
		if c.summary == "" || strings.HasSuffix(c.summary, ".") || c.help == "" || len(c.examples) == 0 {
			t.Errorf("%s: the summary, the help or the examples are incomplete", c.name)
		}
		for _, f := range c.flags() {
			if f.usage == "" || strings.HasSuffix(f.usage, ".") {
				t.Errorf("%s --%s: the usage is empty or ends with a full stop: %q", c.name, f.name, f.usage)
			}
		}
		var text bytes.Buffer
		writeHelp(&text, c)
		for line := range strings.Lines(text.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 && !strings.HasPrefix(line, "  udsipc") {
				t.Errorf("%s: a line of the help has %d columns: %s", c.name, n, line)
			}
		}
	}
}

func TestRun_Arguments_AreChecked(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		text string // On the standard error; the standard output, if the code is 0.
	}{
		{nil, exitUsage, "Usage: udsipc COMMAND"},
		{[]string{"--help"}, exitOK, "Usage: udsipc COMMAND"},
		{[]string{"-h"}, exitOK, "Usage: udsipc COMMAND"},
		{[]string{"help"}, exitOK, "Usage: udsipc COMMAND"},
		{[]string{"--version"}, exitOK, "udsipc "},
		{[]string{"version"}, exitOK, "udsipc "},
		{[]string{"heap"}, exitUsage, `there is no command "heap" (did you mean help?)`},
		{[]string{"help", "nothing"}, exitUsage, `there is no command "nothing"`},
		{[]string{"help", "one", "two"}, exitUsage, `there is no argument for "two": udsipc help [COMMAND]`},
		{[]string{"sned"}, exitUsage, `there is no command "sned" (did you mean send?)`},
		{[]string{"send"}, exitUsage, "ADDRESS is missing: udsipc send ADDRESS [FILE...]"},
		{[]string{"call", "a"}, exitUsage, "METHOD is missing"},
		{[]string{"top", "x"}, exitUsage, `there is no argument for "x": udsipc top;`},
		{[]string{"send", "--akc", "a"}, exitUsage, "there is no flag --akc (did you mean --ack?)"},
		{[]string{"send", "-q", "a"}, exitUsage, "there is no flag --q;"},
		{[]string{"send", "a", "--queue", "lots"}, exitUsage, `--queue "lots": want a number`},
		{[]string{"send", "a", "--timeout", "5"}, exitUsage, `--timeout "5": want a duration with its unit, such as 30s`},
		{[]string{"send", "a", "--timeout"}, exitUsage, "--timeout needs a value: a duration"},
		{[]string{"send", "a", "--ack=maybe"}, exitUsage, `--ack "maybe": want true or false`},
		{[]string{"listen", "tcp://192.0.2.1:9"}, exitUsage, "use --tls-cert, or --plaintext if"},
		{[]string{"send", "tcp://192.0.2.1:9"}, exitUsage, "use --tls, or --plaintext if"},
		{[]string{"send", "--publish", "a b", "a"}, exitUsage, `--publish "a b": want 1 to 32`},
		{[]string{"send", "--max-message-size", "5GiB", "a"}, exitUsage, "--max-message-size 5GiB: want at most 1GiB"},
		{[]string{"version", "--loud"}, exitUsage, "there is no flag --loud"},
	} {
		got := execute(t, nil, test.args...)
		text := got.stdout + got.stderr
		if got.code != test.code || !strings.Contains(text, test.text) || (got.code == exitOK) != (got.stderr == "") {
			t.Errorf("udsipc %v: %+v, want %d and %q", test.args, got, test.code, test.text)
		}
	}
}

// TestParse_Flags_StandAnywhere: flags may follow operands, up to "--".
func TestParse_Flags_StandAnywhere(t *testing.T) {
	for _, test := range []struct{ args, operands, value string }{
		{"a b -x 1", "a b", "1"},
		{"-x 1 a b", "a b", "1"},
		{"a --x=1 b", "a b", "1"},
		{"a -- -x 1", "a -x 1", ""},
		{"- a", "- a", ""},
		{"", "", ""},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		value := flags.String("x", "", "")
		operands, err := parse(flags, strings.Fields(test.args))
		if got := strings.Join(operands, " "); err != nil || got != test.operands || *value != test.value {
			t.Errorf("%q: operands %q, value %q, %v; want %q, %q", test.args, got, *value, err, test.operands, test.value)
		}
	}
}

func TestByteSize_Texts_AreParsed(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "4096": 4096, "64KiB": 64 << 10, "64K": 64 << 10, "10MB": 10e6, "1 GiB": 1 << 30, "7B": 7,
	} {
		var got byteSize
		if err := got.Set(text); err != nil || uint64(got) != want {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5MB", "KiB", "12 apples", "99999999999999 GiB"} {
		var got byteSize
		if err := got.Set(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

func TestFormat_Numbers_HaveThreeDigits(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B", 7: "7 B", 999: "999 B", 1000: "1.00 kB", 12345: "12.3 kB", 123456: "123 kB", 999999: "1.00 MB",
		12.5e9: "12.5 GB", 4e12: "4000 GB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
	if got := formatCount(950); got != "950" {
		t.Errorf("got %q", got)
	}
}
