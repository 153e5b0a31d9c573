// SPDX-License-Identifier: Apache-2.0

package inspect

// This file finds out which protocol the listener speaks. No byte that is sent is one of a message: the first
// connection is closed without any, the second asks for a version, the third makes a TLS handshake.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// maxReply is how many bytes of a reply are read.
const maxReply = 512

// examineProtocol asks what is spoken.
func (s *subject) examineProtocol() {
	reply, err := s.ask(nil, nil)
	report, told := parseReport(reply)
	s.Speaks.Known = true
	switch {
	case told && report.Reason == wire.CloseNotTLS:
		s.Speaks.TLS, s.Speaks.Limit = true, report.Limit
		s.examineTLS()
	case told && report.Reason == wire.CloseFull:
		s.isReader(report.Limit)
		s.add(Problem, "protocol", "Find out who holds the connections (udsipc top --who), or raise WithMaxConnections "+
			"or WithMaxConnectionsPerUser.", "the reader refuses more connections: too many are open")
	case told && report.Reason == wire.CloseUnauthorized:
		s.isReader(report.Limit)
		s.add(Problem, "protocol", "Run the writer as a user whom the reader's WithAuthorizer accepts.",
			"the reader refuses this user: not authorized")
	case told, bytes.Equal(reply, wire.Goodbye):
		s.isReader(report.Limit)
		s.askVersion(nil)
	case len(reply) > 0:
		s.foreign(reply)
	case isTimeout(err):
		s.Speaks.Known = false
		s.add(Problem, "protocol", "Look whether the process hangs (its handler, or its accept loop); "+
			"if it is no Reader, use another address.", "a connection was not served within %v", s.Within)
	default:
		s.askVersion(nil)
	}
}

// isReader notes a Reader and its limit.
func (s *subject) isReader(limit uint64) {
	s.Speaks.Reader = true
	s.Speaks.Limit = max(s.Speaks.Limit, limit)
}

// askVersion asks for the version of sessions.
func (s *subject) askVersion(config *tls.Config) {
	reply, err := s.ask(wire.AppendVersionQuery(nil), config)
	report, told := parseReport(reply)
	version, versionErr := wire.ParseVersionReply(reply)
	switch {
	case versionErr == nil:
		s.isReader(0)
		s.Speaks.Sessions = version
		s.add(OK, "protocol", "", "a Reader that supports sessions (version %d): WithAcknowledgements works", version)
		if version != supportedVersion {
			s.add(Problem, "protocol", "Update the older side.",
				"this program supports version %d of sessions", supportedVersion)
		}
	case told && report.Reason == wire.CloseNotReader:
		s.Speaks.Duplex, s.Speaks.Limit = true, report.Limit
		s.add(OK, "protocol", "", "a server of package duplex or rpc; a Writer cannot send to it")
	case told && report.Reason == wire.CloseMalformed, len(reply) == 0 && s.Speaks.Reader:
		s.isReader(report.Limit)
		s.add(Note, "protocol", "Use a plain Writer, or update the reader.", "a reader of plain frames, without sessions")
	case told:
		s.isReader(report.Limit)
		s.add(Note, "protocol", "Try again.", "the reader ended the connection (reason %d)", report.Reason)
	case len(reply) > 0:
		s.foreign(reply)
	case isTimeout(err):
		s.add(Problem, "protocol", "Look whether the process hangs; if it is no Reader, use another address.",
			"the listener did not answer within %v", s.Within)
	default:
		s.add(Note, "protocol", "If messages do not arrive, look at the listener's program: it may expect another protocol.",
			"the listener closes connections without an answer: a reader of plain frames, or another protocol")
	}
}

// supportedVersion is the version of sessions of this module.
const supportedVersion = 1

// foreign tells that the listener speaks another protocol.
func (s *subject) foreign(reply []byte) {
	s.add(Problem, "protocol", "It is another program's socket: use another address.",
		"the listener speaks another protocol: it sent %q", reply[:min(len(reply), 40)])
}

// ask sends a question on a connection of its own, and returns the reply until the end of it. Without a question it
// closes the sending side, as a writer with no message does.
func (s *subject) ask(question []byte, config *tls.Config) (reply []byte, err error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // The reply is all that counts.
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(s.Within)); err != nil {
		return nil, err
	}
	if config != nil {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(s.ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	if len(question) > 0 {
		_, err = conn.Write(question)
	} else if half, ok := conn.(interface{ CloseWrite() error }); ok {
		err = half.CloseWrite()
	}
	reply, readErr := io.ReadAll(io.LimitReader(conn, maxReply))
	return reply, errors.Join(err, readErr)
}

// parseReport parses a goodbye with a report.
func parseReport(reply []byte) (report wire.CloseReport, ok bool) {
	rest, found := bytes.CutPrefix(reply, wire.Goodbye)
	report, size, err := wire.ParseCloseReport(rest)
	return report, found && err == nil && size > 0
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// expiresSoon is how long before the end of a certificate it is worth knowing.
const expiresSoon = 14 * 24 * time.Hour

// examineTLS makes a TLS handshake that accepts every certificate, looks at it, and asks for the version of sessions.
func (s *subject) examineTLS() {
	var found tls.ConnectionState
	wanted := false
	config := &tls.Config{
		ServerName:         s.address.Host(),
		InsecureSkipVerify: true, // It is looked at, and nothing is sent that matters.
		VerifyConnection:   func(state tls.ConnectionState) error { found = state; return nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			wanted = true
			return &tls.Certificate{}, nil
		},
	}
	if config.ServerName == "" {
		config.ServerName = "localhost" // Some name is needed; it is not compared.
	}
	reply, err := s.ask(wire.AppendVersionQuery(nil), config)
	if len(found.PeerCertificates) == 0 {
		s.add(Problem, "TLS", "Look at the log of the reader for the reason.",
			"the listener expects TLS, and the handshake failed: %v", err)
		return
	}
	s.add(OK, "TLS", "", "the listener speaks %s, certificate for %s", tls.VersionName(found.Version),
		names(found.PeerCertificates[0]))
	s.examineCertificate(found.PeerCertificates[0])
	version, versionErr := wire.ParseVersionReply(reply)
	switch {
	case versionErr == nil:
		s.isReader(0)
		s.Speaks.Sessions = version
		s.add(OK, "protocol", "", "a Reader that supports sessions (version %d): WithAcknowledgements works", version)
	case wanted:
		s.add(Note, "TLS", "A Writer needs a certificate in WithTLS that the reader accepts.",
			"the listener asks for a certificate of the client, which this program has not: nothing more can be seen")
	}
}

// examineCertificate checks the time in which a certificate is valid.
func (s *subject) examineCertificate(c *x509.Certificate) {
	switch now := time.Now(); {
	case now.After(c.NotAfter):
		s.add(Problem, "TLS", "Renew it.",
			"the certificate has expired: it was valid until %s", c.NotAfter.Format(time.DateTime))
	case now.Before(c.NotBefore):
		s.add(Problem, "TLS", "Check the clock of both sides.", "the certificate is valid only from %s",
			c.NotBefore.Format(time.DateTime))
	case c.NotAfter.Sub(now) < expiresSoon:
		s.add(Note, "TLS", "Renew it.", "the certificate expires %s", c.NotAfter.Format(time.DateTime))
	}
}
