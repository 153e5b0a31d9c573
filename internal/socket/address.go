// SPDX-License-Identifier: Apache-2.0

// Package socket parses addresses, dials them, and creates and removes listening sockets. A socket
// file is only as safe as its path: the package checks each directory on the path, and then works
// with open descriptors.
package socket

// This file parses an address into a network and a name, and reports what is wrong with it.
// Listening and socket files are in file.go.

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

const (
	networkUnix = "unix"
	networkTCP  = "tcp"
)

// An Address is the address at which a Reader listens and to which a Writer connects.
type Address struct {
	network      string // networkUnix or networkTCP.
	name         string // As for net.Dial: a path, @name, or host:port.
	loopbackOnly bool   // Localhost must resolve to a loopback address.
}

func (a Address) String() string {
	switch {
	case a.network == networkTCP:
		return "tcp://" + a.name
	case strings.HasPrefix(a.name, "unix:") || meantTCP(a.name) != "":
		return "unix:" + a.name // The path alone would be another kind of address, or none.
	}
	return a.name
}

// IsUnix reports whether the address is one of a Unix socket, with or without a file.
func (a Address) IsUnix() bool { return a.network == networkUnix }

// IsFile reports whether the address is a socket file, and not an abstract name or TCP.
func (a Address) IsFile() bool {
	return a.network == networkUnix && !strings.HasPrefix(a.name, "@")
}

// KeptOnMachine returns the address with the rule that its data must not leave the machine.
// localhost is then checked after it is resolved.
func (a Address) KeptOnMachine() Address {
	a.loopbackOnly = true
	return a
}

// Matches reports whether addr, as the system returns it, is this address.
func (a Address) Matches(addr net.Addr) bool { return addr.String() == a.name }

// Hash returns a hash of the address.
func (a Address) Hash() uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(a.String())) // Never fails (hash.Hash).
	return hash.Sum64()
}

// split returns the directory of the socket file and the name in it. It keeps "..": after a
// symbolic link, ".." leads elsewhere than the text suggests (path_resolution(7)).
func (a Address) split() (dir, name string) {
	dir, name = filepath.Split(a.name)
	if dir == "" {
		dir = "."
	}
	return dir, name
}

// maxSocketPath returns the length of the longest path of a Unix socket: sun_path without the final
// NUL. See unix(7) on Linux, unix(4) on the BSDs and Darwin.
func maxSocketPath() int {
	switch runtime.GOOS {
	case "linux", "android", "windows", "solaris", "illumos":
		return 107
	}
	return 103
}

// Parse parses a path, unix:PATH, @name or tcp://HOST:PORT.
func Parse(text string) (Address, error) {
	if rest, ok := strings.CutPrefix(text, "tcp://"); ok {
		return parseTCP(text, rest)
	}
	path, prefixed := strings.CutPrefix(text, "unix:")
	if meant := meantTCP(path); meant != "" && !prefixed {
		return Address{}, invalidAddress(text,
			"it has no scheme; did you mean "+meant+"? For a file of that name write ./"+path)
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok && prefixed {
		path = rest // unix:///run/app.sock, as other tools write it.
	}
	switch scheme, _, found := strings.Cut(path, "://"); {
	case path == "":
		return Address{}, invalidAddress(text, "it is empty; give a path, @name or tcp://HOST:PORT")
	case found && !strings.Contains(scheme, "/"):
		return Address{}, invalidAddress(text,
			"unknown scheme "+scheme+"; a path, unix:PATH, @name and tcp://HOST:PORT are known")
	case strings.ContainsRune(path, 0):
		return Address{}, invalidAddress(text, "it has a NUL byte")
	case path == "@":
		return Address{}, invalidAddress(text, "the abstract name is empty")
	case path[0] == '@' && runtime.GOOS != "linux" && runtime.GOOS != "android":
		return Address{}, invalidAddress(text, "abstract names exist on Linux alone")
	case path[0] == '@' && len(path)-1 > maxSocketPath():
		return Address{}, invalidAddress(text,
			fmt.Sprintf("the name has %d bytes, the limit is %d", len(path)-1, maxSocketPath()))
	case path[0] == '@':
	case len(path) > maxSocketPath():
		return Address{}, invalidAddress(text,
			fmt.Sprintf("the path has %d bytes, the limit is %d", len(path), maxSocketPath()))
	case strings.HasSuffix(path, "/"):
		return Address{}, invalidAddress(text, "it names a directory; append the socket's name")
	case inHome(path):
		return Address{}, invalidAddress(text,
			"only a shell expands ~; give the whole path, os.UserHomeDir returns that of the directory")
	}
	return Address{network: networkUnix, name: path}, nil
}

func parseTCP(text, hostPort string) (Address, error) {
	_, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return Address{}, invalidAddress(text, err.Error())
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return Address{}, invalidAddress(text, fmt.Sprintf("%q is not a port from 0 to 65535", port))
	}
	return Address{network: networkTCP, name: hostPort}, nil
}

// Host returns the host of a TCP address, or "".
func (a Address) Host() string {
	if a.network != networkTCP {
		return ""
	}
	host, _, err := net.SplitHostPort(a.name)
	if err != nil {
		return ""
	}
	return host
}

// IsLoopback reports whether data for the address stays on this machine. The only accepted host
// name is localhost, which checkLocalhost checks after it is resolved. NAME.localhost is not
// accepted: resolvers need not treat it specially (RFC 6761, section 6.3), and Go's does not.
func (a Address) IsLoopback() bool {
	if a.network != networkTCP || a.isLocalhost() {
		return true
	}
	ip, err := netip.ParseAddr(a.Host())
	return err == nil && ip.Unmap().IsLoopback()
}

func (a Address) isLocalhost() bool {
	return strings.TrimSuffix(strings.ToLower(a.Host()), ".") == "localhost"
}

// checkLocalhost rejects an address to which localhost was resolved, if the address is not on this
// machine and the data must not leave it. The Control function of a dialer or listener calls it
// with the address, before the first packet.
func (a Address) checkLocalhost(resolved string) error {
	if !a.loopbackOnly || !a.isLocalhost() {
		return nil
	}
	if to, err := netip.ParseAddrPort(resolved); err == nil && to.Addr().Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf(
		"%w: %q resolves to %s, which is not a loopback address; use WithTLS, or WithPlaintext",
		errdefs.ErrPlaintext, a.Host(), resolved)
}

func invalidAddress(text, reason string) error {
	return fmt.Errorf("%w %q: %s", errdefs.ErrInvalidSocketPath, text, reason)
}

// tcpKeepAlive detects a vanished peer of an idle connection within about ten seconds. If data is
// in flight, only retransmission detects it, which takes many minutes (tcp(7), tcp_retries2).
// TCP_USER_TIMEOUT would be faster, but it also limits how long data may wait for a closed window:
// it would end the connection of a peer that is alive but slow to read. Sessions have heartbeats
// instead.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5}

// Dial connects. sendBuffer is the size of the kernel's send buffer in bytes; 0 keeps the default.
func (a Address) Dial(ctx context.Context, timeout time.Duration, sendBuffer int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, KeepAliveConfig: tcpKeepAlive,
		Control: func(_, resolved string, _ syscall.RawConn) error {
			return a.checkLocalhost(resolved)
		}}
	conn, err := dialer.DialContext(ctx, a.network, a.name)
	if err != nil {
		return nil, a.notSocket(err)
	}
	if sized, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok && sendBuffer > 0 {
		if err := sized.SetWriteBuffer(sendBuffer); err != nil {
			return nil, fmt.Errorf("setting the send buffer to %d bytes (WithWriteBufferSize): %w",
				sendBuffer, errdefs.First(err, conn.Close()))
		}
	}
	return conn, nil
}

// notSocket returns err, the error of connecting, with what lies at the path if that is no socket.
func (a Address) notSocket(err error) error {
	if !a.IsFile() || !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	info, statErr := os.Stat(a.name)
	if statErr != nil || info.Mode().Type() == fs.ModeSocket {
		return err
	}
	return fmt.Errorf("%s lies there and no socket: %w", describe(info), err)
}
