// SPDX-License-Identifier: Apache-2.0

package transport_test

// The peer of a connection: its name, its identity and its credentials.

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/transport"
)

func newPeer(number uint64, addr net.Addr, credentials bool, state *tls.ConnectionState) *transport.Peer {
	p := &transport.Peer{ID: number, Addr: addr, TLS: state}
	if credentials {
		p.Credentials = &peercred.Credentials{UID: 1, GID: 2, PID: 3}
	}
	return p
}

func TestPeer_String_HasWhatIsKnown(t *testing.T) {
	for _, test := range []struct {
		addr        net.Addr
		credentials bool
		want        string
	}{
		{nil, false, "connection 70"}, {&net.UnixAddr{}, false, "connection 70"},
		{&net.UnixAddr{Name: "@"}, false, "connection 70"},
		{&net.UnixAddr{Name: "/a"}, false, "connection 70 from /a"},
		{&net.UnixAddr{Name: "/a"}, true, "connection 70 from /a (uid 1, gid 2, pid 3)"},
		{nil, true, "connection 70 (uid 1, gid 2, pid 3)"},
		// A name that its owner has chosen to look like more.
		{&net.UnixAddr{Name: "@a\nok\x1b[1m"}, false, `connection 70 from "@a\nok\x1b[1m"`},
		{&net.UnixAddr{Name: "@a (uid 0)"}, true, `connection 70 from "@a (uid 0)" (uid 1, gid 2, pid 3)`},
		{&net.UnixAddr{Name: "@\xff\u202e"}, false, `connection 70 from "@\xff\u202e"`},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 7}, false, "connection 70 from [::1]:7"},
	} {
		if got := newPeer(70, test.addr, test.credentials, nil).String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// TestPeer_Identity_IsKeyOrUser is the key of a certificate, or else the user.
func TestPeer_Identity_IsKeyOrUser(t *testing.T) {
	identity := func(credentials bool, state *tls.ConnectionState) string {
		return newPeer(1, nil, credentials, state).Identity()
	}
	key := func(text string) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: []byte(text)}, {}}}
	}
	if got := identity(false, nil); got != "" {
		t.Errorf("%q", got)
	}
	if got := identity(true, nil); got != "uid 1" {
		t.Errorf("%q", got)
	}
	if got := identity(true, &tls.ConnectionState{}); got != "uid 1" {
		t.Errorf("%q", got)
	}
	a, b := identity(true, key("a")), identity(false, key("b"))
	if len(a) != 4+32 || !strings.HasPrefix(a, "key ") || a == b || a != identity(false, key("a")) {
		t.Errorf("%q and %q", a, b)
	}
}

func TestAuthorize_RefusalOrPanic_IsUnauthorized(t *testing.T) {
	if err := transport.Authorize(nil, nil); err != nil {
		t.Error(err)
	}
	if err := transport.Authorize(func(*transport.Peer) error { return nil }, nil); err != nil {
		t.Error(err)
	}
	no := errors.New("no")
	rejects := func(*transport.Peer) error { return no }
	if err := transport.Authorize(rejects, nil); !errors.Is(err, no) || !errors.Is(err, udsipc.ErrUnauthorized) {
		t.Error(err)
	}
	panics := func(*transport.Peer) error { panic("oh") }
	if err := transport.Authorize(panics, nil); !errors.Is(err, udsipc.ErrUnauthorized) ||
		!strings.HasSuffix(err.Error(), "the authorizer panicked: oh") {
		t.Error(err)
	}
}

func TestReadCredentials_UnixSocket_IsThisProcess(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	if c, err := transport.ReadCredentials(near); err != nil ||
		c != nil && (c.UID != os.Getuid() || c.PID != os.Getpid()) {
		t.Errorf("%v, %v", c, err)
	}
	pipe, _ := net.Pipe()
	if c, err := transport.ReadCredentials(pipe); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}
