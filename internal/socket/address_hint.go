// SPDX-License-Identifier: Apache-2.0

package socket

// This file recognizes texts that are valid paths, but are hardly meant as one: a TCP address
// without its scheme, and a home directory that only a shell would expand.

import (
	"net/netip"
	"strconv"
	"strings"
)

// separators are the characters that tell that a text is a path. On Unix a backslash is an ordinary
// character, but C:\app\collector.sock is no TCP address there either.
const separators = `/\`

// inHome reports whether a path begins with ~/ or ~USER/.
func inHome(path string) bool {
	first, _, found := strings.Cut(path, "/")
	return found && strings.HasPrefix(first, "~")
}

// meantTCP returns the TCP address that a text without tcp:// may stand for, or "". A name with a
// colon is a TCP address only if a port number ends it: a file may be called a:b.
func meantTCP(text string) string {
	if rest, ok := strings.CutPrefix(text, "tcp:"); ok {
		if rest = strings.TrimLeft(rest, "/"); strings.ContainsAny(rest, separators) {
			return ""
		}
		if meant := meantTCP(rest); meant != "" {
			return meant
		}
		return "tcp://HOST:PORT"
	}
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		return "tcp://localhost:" + text
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 || text[0] == '@' || strings.ContainsAny(text, separators) {
		return ""
	}
	host, port := text[:colon], text[colon+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return ""
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch ip, err := netip.ParseAddr(bare); {
	case host == "":
		return "tcp://localhost:" + port
	case err == nil && ip.Is6():
		return "tcp://[" + bare + "]:" + port
	case strings.Contains(host, ":"):
		return ""
	}
	return "tcp://" + text
}
