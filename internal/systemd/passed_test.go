// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/systemd"
)

func TestActivation_Variables_Parse(t *testing.T) {
	const pid = 42
	for _, test := range []struct {
		name, pid, fds, names string
		named                 bool
		want                  []string
		says                  string
	}{
		{name: "nothing"},
		{name: "number of a process alone", pid: "42"},
		{name: "number of descriptors alone", fds: "1"},
		{name: "for another process", pid: "43", fds: "nonsense", names: "a:b:c", named: true},
		{name: "one without names", pid: "42", fds: "1", want: []string{"unknown"}},
		{name: "two without names", pid: "42", fds: "2", want: []string{"unknown", "unknown"}},
		{name: "names", pid: "42", fds: "2", names: "a:b", named: true, want: []string{"a", "b"}},
		{name: "empty names", pid: "42", fds: "2", names: ":", named: true, want: []string{"", ""}},
		{name: "one empty name", pid: "42", fds: "1", named: true, want: []string{""}},
		{name: "none", pid: "42", fds: "0", want: []string{}},
		{name: "none, with names", pid: "42", fds: "0", named: true, want: []string{}},
		{name: "no process", pid: "init", fds: "1", says: "LISTEN_PID"},
		{name: "process 0", pid: "0", fds: "1", says: "LISTEN_PID"},
		{name: "no number of descriptors", pid: "42", fds: "many", says: "LISTEN_FDS"},
		{name: "less than none", pid: "42", fds: "-1", says: "LISTEN_FDS"},
		{name: "too many", pid: "42", fds: "65537", says: "LISTEN_FDS"},
		{name: "a name too few", pid: "42", fds: "2", names: "a", named: true, says: "LISTEN_FDNAMES"},
		{name: "a name too many", pid: "42", fds: "1", names: "a:b", named: true, says: "LISTEN_FDNAMES"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := systemd.ParseActivation(pid, test.pid, test.fds, test.names, test.named)
			if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// FuzzParseActivation checks that there is one name for each descriptor, or none, and that what is
// meant for another process is never an error.
func FuzzParseActivation(f *testing.F) {
	// What systemd sets.
	f.Add(42, "42", "1", "", false)
	f.Add(42, "42", "2", "first:second", true)
	// What a parent passes on by mistake.
	f.Add(42, "41", "1", "", false)
	// Numbers that Go reads and systemd does not write.
	f.Add(42, "+42", "01", "", true)
	f.Add(42, "042", "-0", "", false)
	f.Add(42, "99999999999999999999", "65536", ":::", true)
	// Nonsense.
	f.Add(0, "0", "", "", false)
	f.Add(-1, "-1", "1", ":", true)
	f.Fuzz(func(t *testing.T, pid int, listenPID, listenFDs, fdNames string, namesSet bool) {
		names, err := systemd.ParseActivation(pid, listenPID, listenFDs, fdNames, namesSet)
		switch {
		case err != nil:
			if names != nil || !strings.Contains(err.Error(), "LISTEN_") {
				t.Errorf("%q, %v", names, err)
			}
		case names == nil:
		case len(names) > 1<<16:
			t.Errorf("%d names", len(names))
		case namesSet && len(names) > 0:
			if joined := strings.Join(names, ":"); joined != fdNames {
				t.Errorf("names %q, want %q", joined, fdNames)
			}
		}
	})
}
