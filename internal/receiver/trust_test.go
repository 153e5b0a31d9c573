// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestPeer_Credentials_AreReported: a handler and both authorizers see who is at the other end.
func TestPeer_Credentials_AreReported(t *testing.T) {
	if !ipctest.TellsCredentials {
		t.Skip("this system does not tell")
	}
	path := ipctest.SocketPath(t)
	peers := make(chan udsipc.Peer, 10)
	note := udsipc.WithAuthorizer(func(p udsipc.Peer) error { peers <- p; return nil })
	got := make(chan udsipc.Peer, 1)
	ipctest.StartDeliveryReader(t,
		func(_ context.Context, d *udsipc.Delivery) error { got <- d.Peer; return nil }, path,
		note)
	w := ipctest.StartWriter(t, path, note)
	ipctest.MustWriteMessage(t, w, "who is it")
	for _, p := range []udsipc.Peer{
		ipctest.Await(t, "the first authorizer", peers), ipctest.Await(t, "the second", peers),
		ipctest.Await(t, "the handler", got),
	} {
		c := p.Credentials
		if c == nil || c.UID != os.Getuid() || c.GID != os.Getgid() || c.PID != os.Getpid() || p.ID != 1 {
			t.Fatalf("%v, want uid %d, gid %d, pid %d", p, os.Getuid(), os.Getgid(), os.Getpid())
		}
		if groups, err := os.Getgroups(); err != nil ||
			runtime.GOOS == "linux" && !slices.Equal(sorted(c.Groups), sorted(groups)) {
			t.Errorf("groups %v, want %v, %v", c.Groups, groups, err)
		}
		if !strings.Contains(p.String(), c.String()) {
			t.Errorf("%v does not say %v", p, c)
		}
	}
}

func sorted(s []int) []int { s = slices.Clone(s); slices.Sort(s); return s }

func TestAuthorizers_ReadyMade_Decide(t *testing.T) {
	peer := udsipc.Peer{Credentials: &udsipc.Credentials{UID: 1000, GID: 100, Groups: []int{4, 27}}}
	self := udsipc.Peer{Credentials: &udsipc.Credentials{UID: os.Geteuid()}}
	no := func(udsipc.Peer) error { return errors.New("no") }
	yes := func(udsipc.Peer) error { return nil }
	for name, test := range map[string]struct {
		authorize func(udsipc.Peer) error
		peer      udsipc.Peer
		want      bool
	}{
		"one of the users":      {udsipc.AllowUIDs(0, 1000), peer, true},
		"none of the users":     {udsipc.AllowUIDs(0, 1001), peer, false},
		"no user":               {udsipc.AllowUIDs(), peer, false},
		"the group":             {udsipc.AllowGIDs(100), peer, true},
		"a supplementary group": {udsipc.AllowGIDs(1, 27), peer, true},
		"none of the groups":    {udsipc.AllowGIDs(1000), peer, false},
		"users, nobody known":   {udsipc.AllowUIDs(0), udsipc.Peer{}, false},
		"groups, nobody known":  {udsipc.AllowGIDs(0), udsipc.Peer{}, false},
		"same user":             {udsipc.SameUser(), self, true},
		"another user": {udsipc.SameUser(),
			udsipc.Peer{Credentials: &udsipc.Credentials{UID: os.Geteuid() + 1}}, false},
		"same user, nobody": {udsipc.SameUser(), udsipc.Peer{}, false},
		"all of both":       {udsipc.AllOf(yes, yes), peer, true},
		"all but one":       {udsipc.AllOf(yes, no), peer, false},
		"all of none":       {udsipc.AllOf(), peer, true},
		"any of two":        {udsipc.AnyOf(no, yes), peer, true},
		"any of the wrong":  {udsipc.AnyOf(no, no), peer, false},
		"any of none":       {udsipc.AnyOf(), peer, false},
	} {
		if err := test.authorize(test.peer); (err == nil) != test.want {
			t.Errorf("%s: %v, want allowed %v", name, err, test.want)
		}
	}
}

// TestAuthorizer_Rejects_NothingIsExchanged: nothing of a refused writer is handled, and nothing is sent to a refused
// reader.
func TestAuthorizer_Rejects_NothingIsExchanged(t *testing.T) {
	t.Parallel()
	deny := udsipc.WithAuthorizer(func(udsipc.Peer) error { return errors.New("not on the list") })
	fall := udsipc.WithAuthorizer(func(udsipc.Peer) error { panic("on the floor") })
	for _, mode := range [][]udsipc.WriterOption{nil, {udsipc.WithAcknowledgements()}} {
		for _, opt := range []udsipc.Option{deny, fall} {
			ipctest.OverAddresses(t, func(t *testing.T, address string) {
				t.Run("by the reader", func(t *testing.T) {
					errs := ipctest.Collect()
					r := ipctest.StartReader(t,
						func([]byte) error { t.Error("handled"); return nil }, address, opt,
						udsipc.WithReaderErrorCallback(errs.Callback))
					w := ipctest.StartedWriter(t, address, mode...)
					ipctest.MustWriteMessage(t, w, "no")
					err := errs.Want(t, udsipc.ErrUnauthorized)
					if !strings.Contains(err.Error(), ", connection ") {
						t.Errorf("%v does not name the peer", err)
					}
					if m := r.Metrics(); m.Unauthorized == 0 || m.Received > 0 || m.ReceivedBytes > 0 {
						t.Errorf("%+v", m)
					}
					ended, cancel := context.WithCancel(t.Context())
					cancel()
					_ = w.Stop(ended)
				})
				t.Run("by the writer", func(t *testing.T) {
					errs := ipctest.Collect()
					r := ipctest.StartReader(t, func([]byte) error { t.Error("handled"); return nil }, address)
					w := ipctest.StartedWriter(t, address, append(mode, opt,
						udsipc.WithWriterErrorCallback(errs.Callback),
						udsipc.WithMaxBackoff(time.Millisecond))...)
					ipctest.MustWriteMessage(t, w, "no")
					errs.Want(t, udsipc.ErrUnauthorized)
					ipctest.Until(t, "it goes on trying", func() bool { return w.Metrics().Unauthorized >= 2 })
					if m := w.Metrics(); m.Queued != 1 || m.Connections > 0 || m.WrittenBytes > 0 {
						t.Errorf("%+v", m)
					}
					if m := r.Metrics(); m.ReceivedBytes > 0 {
						t.Errorf("%+v", m)
					}
				})
			})
		}
	}
}

// TestTLS_AllTransports_Deliver: messages, large ones too, over each transport, plain and
// acknowledged, while the reader restarts; the authorizers see the verified chain.
func TestTLS_AllTransports_Deliver(t *testing.T) {
	t.Parallel()
	a := ipctest.NewAuthority(t)
	readerTLS, writerTLS := a.Configs(t)
	seen := func(name string) udsipc.Option {
		return udsipc.WithAuthorizer(func(p udsipc.Peer) error {
			if p.TLS == nil || len(p.TLS.VerifiedChains) == 0 || p.TLS.VerifiedChains[0][0].Subject.CommonName != name {
				return errors.New("not " + name)
			}
			return nil
		})
	}
	for _, mode := range [][]udsipc.WriterOption{nil, {udsipc.WithAcknowledgements()}} {
		ipctest.OverAddresses(t, func(t *testing.T, address string) {
			t.Parallel()
			const each = 500
			restarts := ipctest.InShort(5, 3)
			s := ipctest.NewSequence(t, uint64(restarts*each))
			errs := ipctest.Collect()
			w := ipctest.StartWriter(t, address, append(mode, udsipc.WithTLS(writerTLS),
				seen("collector"), udsipc.WithOverflow(udsipc.OverflowBlock),
				udsipc.WithWriterErrorCallback(errs.Callback))...)
			for i := range restarts {
				r, err := udsipc.NewReader(s.Handle, address, udsipc.WithTLS(readerTLS), seen("agent"))
				if err != nil {
					t.Fatal(err)
				}
				ipctest.MustListenAt(t, r)
				for n := range uint64(each) {
					if err := w.WriteMessage(ipctest.Number(uint64(i)*each+n, int(n%100*300))); err != nil {
						t.Fatal(err)
					}
				}
				if i%2 == 0 || i == restarts-1 {
					if err := w.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if i == restarts-1 {
					ipctest.Await(t, "all messages", s.Done)
				}
				ipctest.Stop(t, r)
			}
			errs.None(t, udsipc.ErrUnauthorized)
			// A plain Writer may report more losses than there are: a process that does not run for a while sends no report.
			if m := w.Metrics(); mode != nil && m.PossiblyLost > 0 {
				t.Errorf("%+v, want nothing lost", m)
			}
		})
	}
}

// TestTLS_BadPeers_AreReported: a peer without a certificate, with one of another authority, without TLS, and one
// that says nothing.
func TestTLS_BadPeers_AreReported(t *testing.T) {
	t.Parallel()
	a, other := ipctest.NewAuthority(t), ipctest.NewAuthority(t)
	readerTLS, writerTLS := a.Configs(t)
	_, strange := other.Configs(t)
	bare := writerTLS.Clone()
	bare.Certificates = nil
	for name, opts := range map[string][]udsipc.WriterOption{
		"another authority": {udsipc.WithTLS(strange)},
		"no certificate":    {udsipc.WithTLS(bare)},
		"no TLS":            nil,
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			errs := ipctest.Collect()
			r := ipctest.StartReader(t, func([]byte) error { t.Error("handled"); return nil }, path,
				udsipc.WithTLS(readerTLS), udsipc.WithReaderErrorCallback(errs.Callback))
			w := ipctest.StartedWriter(t, path, opts...)
			ipctest.MustWriteMessage(t, w, "this is no handshake")
			errs.Want(t, udsipc.ErrHandshake)
			if m := r.Metrics(); m.HandshakeErrors == 0 || m.Received > 0 {
				t.Errorf("%+v", m)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = w.Stop(ended)
		})
	}
	t.Run("nothing said", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		errs := ipctest.Collect()
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithTLS(readerTLS),
			udsipc.WithReaderErrorCallback(errs.Callback),
			udsipc.WithHandshakeTimeout(20*time.Millisecond))
		ipctest.MustDial(t, path)
		if err := errs.Want(t, udsipc.ErrHandshake); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ipctest.Until(t, "it is gone", func() bool { return r.Metrics().Connections == 0 })
	})
	t.Run("plain reader", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		errs := ipctest.Collect()
		ipctest.StartReader(t, ipctest.Ignore, path) // What it takes for messages is noise.
		w := ipctest.StartedWriter(t, path, udsipc.WithTLS(writerTLS),
			udsipc.WithWriterErrorCallback(errs.Callback),
			udsipc.WithHandshakeTimeout(50*time.Millisecond))
		ipctest.MustWriteMessage(t, w, "this is no handshake")
		errs.Want(t, udsipc.ErrHandshake)
		if m := w.Metrics(); m.HandshakeErrors == 0 || m.Queued != 1 {
			t.Errorf("%+v", m)
		}
	})
}

// TestPlaintext_BeyondLoopback_IsError is refused by both constructors, and allowed if one says so.
func TestPlaintext_BeyondLoopback_IsError(t *testing.T) {
	config := &tls.Config{InsecureSkipVerify: true}
	for address, loopback := range map[string]bool{
		"tcp://127.0.0.1:1": true, "tcp://127.9.9.9:1": true, "tcp://[::1]:1": true,
		"tcp://localhost:1": true, "tcp://LOCALHOST.:1": true,
		"tcp://[::ffff:127.0.0.1]:1": true, "/run/app.sock": true,
		"tcp://:1": false, "tcp://0.0.0.0:1": false, "tcp://[::]:1": false,
		"tcp://10.0.0.1:1": false, "tcp://example.com:1": false,
		"tcp://localhost.example.com:1": false, "tcp://[fe80::1%lo]:1": false,
		"tcp://notlocalhost:1": false, "tcp://a.localhost:1": false,
		"tcp://127.0.0.1.:1": false,
	} {
		for _, opts := range [][]udsipc.Option{nil, {udsipc.WithTLS(config)}, {udsipc.WithPlaintext()}} {
			var writerOpts []udsipc.WriterOption
			var readerOpts []udsipc.ReaderOption
			for _, opt := range opts {
				writerOpts, readerOpts = append(writerOpts, opt), append(readerOpts, opt)
			}
			_, writerErr := udsipc.NewWriter(address, writerOpts...)
			_, readerErr := udsipc.NewReader(ipctest.Ignore, address, readerOpts...)
			for _, err := range []error{writerErr, readerErr} {
				if allowed := loopback || len(opts) > 0; allowed != (err == nil) ||
					!allowed && (!errors.Is(err, udsipc.ErrPlaintext) ||
						!strings.Contains(err.Error(), "WithTLS") || !strings.Contains(err.Error(), "WithPlaintext")) {
					t.Errorf("%s with %d options: %v", address, len(opts), err)
				}
			}
		}
	}
	if _, err := udsipc.NewWriter("/run/app.sock", udsipc.WithTLS(&tls.Config{})); err == nil ||
		!strings.Contains(err.Error(), "ServerName") {
		t.Errorf("TLS without a name to verify: %v", err)
	}
}

// TestTLS_OldVersion_IsRejected has the other side speak no more than TLS 1.2, which is enough only for a configuration
// that says so. The configuration that was given stays as it is.
func TestTLS_OldVersion_IsRejected(t *testing.T) {
	a := ipctest.NewAuthority(t)
	base := func() *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{a.Certificate(t, "collector")}, RootCAs: a.Pool,
			ServerName: "collector",
		}
	}
	for name, test := range map[string]struct {
		set  func(*tls.Config)
		want uint16 // 0: refused.
	}{
		"none named":       {func(*tls.Config) {}, 0},
		"the greatest":     {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS13 }, 0},
		"the least":        {func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }, tls.VersionTLS12},
		"the greatest 1.2": {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, tls.VersionTLS12},
		"for one client": {func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS12
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return base(), nil }
		}, 0},
		"for one client, named": {func(c *tls.Config) {
			chosen := base()
			chosen.MinVersion = tls.VersionTLS12
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }
		}, tls.VersionTLS12},
		"for no client": {func(c *tls.Config) {
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			given, old := base(), base()
			test.set(given)
			least, greatest, choose := given.MinVersion, given.MaxVersion, given.GetConfigForClient != nil
			old.MaxVersion = tls.VersionTLS12
			check := func(t *testing.T, version uint16, err error) {
				t.Helper()
				if (err == nil) != (test.want != 0) || err == nil && version != test.want {
					t.Errorf("version %#x, %v; want %#x", version, err, test.want)
				}
				if given.MinVersion != least || given.MaxVersion != greatest || (given.GetConfigForClient != nil) != choose {
					t.Error("the configuration was changed")
				}
			}
			t.Run("of a reader", func(t *testing.T) {
				path := ipctest.SocketPath(t)
				ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithTLS(given),
					udsipc.WithReaderErrorCallback(func(error, string) {}))
				conn := tls.Client(ipctest.MustDial(t, path), old)
				check(t, shakeHands(t, conn), conn.Handshake())
			})
			if choose {
				return // A client chooses for itself.
			}
			t.Run("of a writer", func(t *testing.T) {
				path := ipctest.SocketPath(t)
				l, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				ipctest.StartWriter(t, path, udsipc.WithTLS(given), udsipc.WithWriterErrorCallback(func(error, string) {}))
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				secure := tls.Server(conn, old)
				check(t, shakeHands(t, secure), secure.Handshake())
			})
		})
	}
}

// shakeHands returns the version that the handshake came to. Handshake returns its error again.
func shakeHands(tb testing.TB, conn *tls.Conn) uint16 {
	tb.Helper()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	_ = conn.Handshake() // The caller asks for it.
	return conn.ConnectionState().Version
}

// TestTLS_Certificates_AreReadPerConnection at each connection.
func TestTLS_Certificates_AreReadPerConnection(t *testing.T) {
	a := ipctest.NewAuthority(t)
	_, writerTLS := a.Configs(t)
	readerTLS := &tls.Config{MinVersion: tls.VersionTLS13}
	names := make(chan string, 3)
	for _, name := range []string{"first", "second"} {
		names <- name
	}
	readerTLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate := a.Certificate(t, <-names)
		return &certificate, nil
	}
	path := ipctest.SocketPath(t)
	got := make(chan string, 2)
	ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path, udsipc.WithTLS(readerTLS))
	for _, name := range []string{"first", "second"} {
		config := writerTLS.Clone()
		config.ServerName = name // Verified against the certificate.
		w := ipctest.StartWriter(t, path, udsipc.WithTLS(config))
		ipctest.MustWriteMessage(t, w, name)
		if data := ipctest.Await(t, "a message", got); data != name {
			t.Errorf("got %q, want %q", data, name)
		}
	}
}

// TestReader_StopDuringTLSHandshake_Returns does not wait for clients that say nothing.
func TestReader_StopDuringTLSHandshake_Returns(t *testing.T) {
	t.Parallel()
	readerTLS, writerTLS := ipctest.NewAuthority(t).Configs(t)
	t.Run("reader", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithTLS(readerTLS), udsipc.WithHandshakeTimeout(time.Hour))
		ipctest.MustDial(t, path)
		ipctest.Until(t, "it is there", func() bool { return r.Metrics().Connections == 1 })
		ipctest.Stop(t, r)
	})
	t.Run("writer", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := ipctest.StartedWriter(t, path, udsipc.WithTLS(writerTLS), udsipc.WithHandshakeTimeout(time.Hour))
		ipctest.MustWriteMessage(t, w, "stays")
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := w.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
}
