// SPDX-License-Identifier: Apache-2.0

// Package socket parses addresses, dials them, and makes and removes the sockets that listen at
// them. A socket is as safe as the way to it: the package checks each directory on that way, and
// works by open descriptors after that.
package socket

// This file turns what a user writes for an address into a network and a name, and says at once what
// is wrong with it. Listening and socket files are in file.go.

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
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

// An Address is where a Reader listens and a Writer connects.
type Address struct {
	network      string // networkUnix or networkTCP.
	name         string // As net.Dial takes it: a path, @name, or host:port.
	loopbackOnly bool   // What is sent there may not leave the machine.
}

func (a Address) String() string {
	switch {
	case a.network == networkTCP:
		return "tcp://" + a.name
	case strings.HasPrefix(a.name, "unix:"):
		return "unix:" + a.name // A path that looks like an address.
	}
	return a.name
}

// IsFile says whether the address is a socket file, as opposed to an abstract name or TCP.
func (a Address) IsFile() bool {
	return a.network == networkUnix && !strings.HasPrefix(a.name, "@")
}

// KeptOnMachine is the address of a connection that may not leave the machine: localhost is checked
// once it is resolved.
func (a Address) KeptOnMachine() Address {
	a.loopbackOnly = true
	return a
}

// Matches reports whether the system writes the address as addr.
func (a Address) Matches(addr net.Addr) bool { return addr.String() == a.name }

// Hash is a number that tells the address from others.
func (a Address) Hash() uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(a.String())) // Never fails (hash.Hash).
	return hash.Sum64()
}

// split returns the directory of the socket file, and its name there. ".." stays: behind a symbolic link it leads
// elsewhere than the text says (path_resolution(7)).
func (a Address) split() (dir, name string) {
	dir, name = filepath.Split(a.name)
	if dir == "" {
		dir = "."
	}
	return dir, name
}

// maxSocketPath is the longest path of a Unix socket: sun_path less the final NUL; unix(7) on Linux,
// unix(4) on the BSDs and Darwin.
func maxSocketPath() int {
	switch runtime.GOOS {
	case "linux", "android", "windows", "solaris", "illumos":
		return 107
	}
	return 103
}

// Parse understands a path, unix:PATH, @name and tcp://HOST:PORT.
func Parse(text string) (Address, error) {
	if rest, ok := strings.CutPrefix(text, "tcp://"); ok {
		return parseTCP(text, rest)
	}
	path, prefixed := strings.CutPrefix(text, "unix:")
	if rest, ok := strings.CutPrefix(path, "//"); ok && prefixed {
		path = rest // unix:///run/app.sock, as in other tools.
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

// Host is the host of a TCP address, or empty.
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

// IsLoopback says whether nothing that is sent there leaves the machine. Of names only localhost is believed,
// and not before it is resolved (checkLocalhost). NAME.localhost is what the name server says: no resolver
// has to know better (RFC 6761, section 6.3), and Go's does not.
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

// checkLocalhost refuses an address that localhost was resolved to, if it is none of this machine and what is
// sent there could be read on the way. It is for the Control function of a dialer or a listener, which gets
// the address before a packet is sent.
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

// tcpKeepAlive notices a vanished peer of an idle connection within about ten seconds. When data is
// under way, retransmission does, which takes many minutes (tcp(7), tcp_retries2). TCP_USER_TIMEOUT
// would be sooner, but also ends the connection of a peer that lives and does not read for so long: it
// bounds how long data may wait for a closed window. Sessions have heartbeats instead.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5}

// Dial connects. sendBuffer is the kernel's send buffer in bytes; 0 leaves it as it is.
func (a Address) Dial(ctx context.Context, timeout time.Duration, sendBuffer int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, KeepAliveConfig: tcpKeepAlive,
		Control: func(_, resolved string, _ syscall.RawConn) error {
			return a.checkLocalhost(resolved)
		}}
	conn, err := dialer.DialContext(ctx, a.network, a.name)
	if err != nil {
		return nil, err
	}
	if sized, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok && sendBuffer > 0 {
		if err := sized.SetWriteBuffer(sendBuffer); err != nil {
			return nil, fmt.Errorf("setting the send buffer to %d bytes (WithWriteBufferSize): %w",
				sendBuffer, errdefs.First(err, conn.Close()))
		}
	}
	return conn, nil
}
