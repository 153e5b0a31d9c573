// SPDX-License-Identifier: Apache-2.0

package socket_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/socket"
)

func TestAddress_Parse_AcceptsAllForms(t *testing.T) {
	longest := strings.Repeat("p", socket.MaxPath())
	for _, test := range []struct{ text, network, name string }{
		{"/run/app.sock", "unix", "/run/app.sock"},
		{"relative", "unix", "relative"},
		{"./a:b", "unix", "./a:b"},
		{"with blank/and \xff byte", "unix", "with blank/and \xff byte"},
		{"unix:/run/app.sock", "unix", "/run/app.sock"},
		{"unix:relative", "unix", "relative"},
		{"unix:///run/app.sock", "unix", "/run/app.sock"},
		{"//run/app.sock", "unix", "//run/app.sock"},
		{"/odd/tcp://name", "unix", "/odd/tcp://name"},
		{longest, "unix", longest},
		// Names with a colon or a tilde that are no mistake.
		{"a:b", "unix", "a:b"},
		{"app:", "unix", "app:"},
		{"app:v1.7000", "unix", "app:v1.7000"},
		{"app:65536", "unix", "app:65536"},
		{"app:-1", "unix", "app:-1"},
		{"a:b:7000", "unix", "a:b:7000"},
		{"./localhost:7000", "unix", "./localhost:7000"},
		{"unix:localhost:7000", "unix", "localhost:7000"},
		{"unix://localhost:7000", "unix", "localhost:7000"},
		{"unix:7000", "unix", "7000"},
		{"unix:tcp:x", "unix", "tcp:x"},
		{"run/app:7000", "unix", "run/app:7000"},
		{"tcp:/app.sock/x", "unix", "tcp:/app.sock/x"},
		{`C:\app\collector.sock`, "unix", `C:\app\collector.sock`},
		{"C:/app/collector.sock", "unix", "C:/app/collector.sock"},
		{"~", "unix", "~"},
		{"app.sock~", "unix", "app.sock~"},
		{"run/~/app.sock", "unix", "run/~/app.sock"},
		{"./~/app.sock", "unix", "./~/app.sock"},
		{"tcp://127.0.0.1:4000", "tcp", "127.0.0.1:4000"},
		{"tcp://localhost:0", "tcp", "localhost:0"},
		{"tcp://[::1]:4000", "tcp", "[::1]:4000"},
		{"tcp://:4000", "tcp", ":4000"},
		{"tcp://host:65535", "tcp", "host:65535"},
	} {
		network, name, _, _, err := socket.Parts(test.text)
		if network != test.network || name != test.name || err != nil {
			t.Errorf("%q is %s %q, %v, want %s %q", test.text, network, name, err, test.network, test.name)
		}
	}
}

func TestAddress_AbstractName_ExistsOnLinuxOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, _, _, _, err := socket.Parts("@name"); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
			t.Errorf("got %v, want %v", err, udsipc.ErrInvalidSocketPath)
		}
		t.Skip("abstract names exist on Linux alone")
	}
	longest := "@" + strings.Repeat("n", socket.MaxPath())
	for _, test := range []struct{ text, name string }{
		{"@name", "@name"}, {"unix:@name", "@name"}, {"unix://@name", "@name"}, {"@a/b/", "@a/b/"}, {longest, longest},
	} {
		network, name, _, file, err := socket.Parts(test.text)
		if network != "unix" || name != test.name || file || err != nil {
			t.Errorf("%q is %s %q, a file: %v, %v, want unix %q, no file", test.text, network, name, file, err, test.name)
		}
	}
}

func TestAddress_Invalid_IsRejected(t *testing.T) {
	limit := socket.MaxPath()
	tooLong := []string{fmt.Sprint(limit), fmt.Sprint(limit + 1)}
	for _, test := range []struct {
		name, text string
		says       []string
	}{
		{"empty", "", []string{"empty"}},
		{"prefix alone", "unix:", []string{"empty"}},
		{"prefix with slashes alone", "unix://", []string{"empty"}},
		{"unknown scheme", "udp://127.0.0.1:1", []string{"udp", "tcp://"}},
		{"scheme after prefix", "unix:http://x", []string{"http"}},
		{"scheme in capitals", "TCP://127.0.0.1:1", []string{"TCP"}},
		{"NUL", "/run/a\x00b", []string{"NUL"}},
		{"abstract NUL", "@a\x00", []string{"NUL"}},
		{"abstract without name", "@", []string{"abstract"}},
		{"abstract without name after prefix", "unix:@", []string{"abstract"}},
		{"directory", "/run/app/", []string{"directory"}},
		{"root", "/", []string{"directory"}},
		{"path too long", strings.Repeat("p", limit+1), tooLong},
		{"path too long after prefix", "unix:" + strings.Repeat("p", limit+1), tooLong},
		{"path much too long", strings.Repeat("p", 5000), []string{fmt.Sprint(limit), "5000"}},
		{"port missing", "tcp://host", []string{"port"}},
		{"port empty", "tcp://host:", []string{"port"}},
		{"port too large", "tcp://host:65536", []string{"65536"}},
		{"port negative", "tcp://host:-1", []string{"-1"}},
		{"port of no service", "tcp://host:no-such-service", []string{"no-such-service"}},
		{"nothing behind tcp", "tcp://", []string{"port"}},
		{"bare IPv6", "tcp://::1:4000", []string{"colons"}},
		{"path behind port", "tcp://host:1/x", []string{"1/x"}},
		{"host and port", "localhost:7000", []string{"did you mean tcp://localhost:7000?", "./localhost:7000"}},
		{"IPv4 and port", "127.0.0.1:80", []string{"did you mean tcp://127.0.0.1:80?"}},
		{"number alone", "7000", []string{"did you mean tcp://localhost:7000?", "./7000"}},
		{"port alone", ":7000", []string{"did you mean tcp://localhost:7000?"}},
		{"IPv6 and port", "[::1]:7000", []string{"did you mean tcp://[::1]:7000?"}},
		{"IPv6 without brackets", "::1:7000", []string{"did you mean tcp://[::1]:7000?"}},
		{"IPv6 with zone", "fe80::1%lo:7000", []string{"did you mean tcp://[fe80::1%lo]:7000?"}},
		{"scheme without slashes", "tcp:localhost:7000", []string{"did you mean tcp://localhost:7000?"}},
		{"scheme with one slash", "tcp:/localhost:7000", []string{"did you mean tcp://localhost:7000?"}},
		{"scheme and port", "tcp:7000", []string{"did you mean tcp://"}},
		{"scheme alone", "tcp:", []string{"did you mean tcp://HOST:PORT?"}},
		{"home directory", "~/app.sock", []string{"only a shell expands ~", "os.UserHomeDir"}},
		{"home directory after prefix", "unix:~/app.sock", []string{"only a shell expands ~"}},
		{"home directory of a user", "~app/app.sock", []string{"only a shell expands ~"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, readerErr := udsipc.NewReader(func([]byte) error { return nil }, test.text)
			_, writerErr := udsipc.NewWriter(test.text)
			for _, err := range []error{readerErr, writerErr} {
				if !errors.Is(err, udsipc.ErrInvalidSocketPath) {
					t.Fatalf("got %v, want %v", err, udsipc.ErrInvalidSocketPath)
				}
				for _, part := range append(test.says, fmt.Sprintf("%q", test.text)) {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
			}
		})
	}
	if runtime.GOOS != "linux" {
		return
	}
	_, err := udsipc.NewWriter("@" + strings.Repeat("n", limit+1))
	if !errors.Is(err, udsipc.ErrInvalidSocketPath) || !strings.Contains(err.Error(), tooLong[0]) ||
		!strings.Contains(err.Error(), tooLong[1]) {
		t.Errorf("abstract name of %d bytes: %v", limit+1, err)
	}
}

// FuzzParseAddress checks that an address is refused with the one sentinel, or fits the system, and
// that what it is written as means the same again.
func FuzzParseAddress(f *testing.F) {
	// One of each kind.
	f.Add("/run/app.sock")
	f.Add("unix:relative")
	f.Add("unix:///run/app.sock")
	f.Add("@name")
	f.Add("tcp://127.0.0.1:4000")
	f.Add("tcp://[::1%lo]:http")
	// Prefixes within prefixes.
	f.Add("unix:unix:x")
	f.Add("unix:////x")
	f.Add("unix://@tcp://x:1")
	f.Add("tcp://unix:1")
	// What is hardly meant as a path.
	f.Add("localhost:7000")
	f.Add("unix:localhost:7000")
	f.Add("tcp:[::1]:7000")
	f.Add("::1:7000")
	f.Add(`C:\app:7000`)
	f.Add("unix:~/x:1")
	f.Add("~u/")
	// Nearly nothing.
	f.Add("")
	f.Add("@")
	f.Add("unix://")
	f.Add("tcp://:")
	// At the limits of Linux and of the others.
	f.Add(strings.Repeat("p", 107))
	f.Add("@" + strings.Repeat("n", 107))
	f.Add(strings.Repeat("p", 104))
	f.Fuzz(func(t *testing.T, text string) {
		network, name, written, file, err := socket.Parts(text)
		if err != nil {
			if !errors.Is(err, udsipc.ErrInvalidSocketPath) || network != "" || name != "" {
				t.Fatalf("%q: %s %q, %v", text, network, name, err)
			}
			return
		}
		switch limit := socket.MaxPath(); {
		case network == "tcp" && !file && strings.Contains(name, ":"):
		case network == "unix" && file && len(name) > 0 && len(name) <= limit && !strings.ContainsRune(name, 0):
		case network == "unix" && !file && len(name) > 1 && len(name) <= limit+1 && !strings.ContainsRune(name, 0):
		default:
			t.Fatalf("%q is %s %q, a file: %v", text, network, name, file)
		}
		network2, name2, _, file2, err := socket.Parts(written)
		if network2 != network || name2 != name || file2 != file || err != nil {
			t.Errorf("%q is %s %q and written %q, which is %s %q, %v", text, network, name, written, network2, name2, err)
		}
	})
}
