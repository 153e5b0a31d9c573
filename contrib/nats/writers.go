// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what a Publisher knows of the local Writers: their names in subjects, and how far the stream has
// their messages.

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// A writerKey tells two Writers apart.
type writerKey struct {
	user   string
	writer udsipc.WriterID // Of a plain connection: the instance of the Publisher and the ID of the peer.
	plain  bool
}

// A writer is the state of a local Writer. Its fields are guarded by the Publisher's mu, but for those
// that only the goroutine uses that has taken it.
type writer struct {
	token string // In subjects.
	taken bool   // A batch with its messages is being published.
	plain bool   // It is a connection without acknowledgements.
	next  uint64 // Number of its next message then.

	scan     uint64    // The search that has passed over messages of it, which go first.
	resumeAt time.Time // Its next try, if it fails while others are stored.

	// Of the goroutine that has taken it:

	handled uint64 // The stream has all messages up to this one.
	last    uint64 // The stream's number of the last message.
	known   bool   // handled and last are what the stream has, unless another bridge publishes for the Writer.
	numbers bool   // The stream has a message, so handled says what must not be published again.
}

// userOf names the user of a peer. A Reader keeps Writers of different users apart although they have the same
// ID; so does this.
func userOf(p *udsipc.Peer) string {
	switch {
	case p.TLS != nil && len(p.TLS.PeerCertificates) > 0:
		sum := sha256.Sum256(p.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		return hex.EncodeToString(sum[:8])
	case p.Credentials != nil:
		return strconv.Itoa(p.Credentials.UID)
	}
	return "any"
}

// WriterToken returns the token of a message's Writer in subjects: its user (the number of a Unix user, a
// hash of the key of a TLS certificate, or "any"), a hyphen, and its ID in hexadecimal. A plain Writer, whose ID
// is zero, has another token for each of its connections, which is in the subject only.
func WriterToken(d *udsipc.Delivery) string { return userOf(&d.Peer) + "-" + d.Writer.String() }

// ParseMessageID parses the Nats-Msg-Id of a message that a Publisher has published: the token of the
// Writer and the number of the message (udsipc.Delivery.Seq).
func ParseMessageID(id string) (writer string, seq uint64, err error) {
	token, number, ok := strings.Cut(id, ".")
	seq, err = strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || seq == 0 || token == "" {
		return "", 0, fmt.Errorf("natsbridge: message ID %q: want WRITER.SEQ", id)
	}
	return token, seq, nil
}

// PeerHeader is for WithHeader: it adds the credentials of the peer, as Udsipc-Uid, Udsipc-Gid and Udsipc-Pid.
func PeerHeader(d *udsipc.Delivery, h nats.Header) {
	if c := d.Peer.Credentials; c != nil {
		h["Udsipc-Uid"] = []string{strconv.Itoa(c.UID)}
		h["Udsipc-Gid"] = []string{strconv.Itoa(c.GID)}
		h["Udsipc-Pid"] = []string{strconv.Itoa(c.PID)}
	}
}

// readBack asks the stream for the last message of a Writer.
func (p *Publisher) readBack(ctx context.Context, s jetstream.Stream, w *writer) error {
	m, err := s.GetLastMsgForSubject(ctx, p.filter(w))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		w.last, w.known, w.numbers = 0, true, false
		return nil
	case err != nil:
		return fmt.Errorf("read the last message of writer %s: %w", w.token, err)
	}
	if p.cfg.subject == nil && m.Header.Get(jetstream.MarkerReasonHeader) != "" {
		w.last, w.known, w.numbers = m.Sequence, true, false // It stands for messages that the stream had.
		return nil
	}
	token, seq, err := ParseMessageID(m.Header.Get(nats.MsgIdHdr))
	if err != nil || token != w.token {
		return fmt.Errorf("%w: message %d of the stream, subject %s: Nats-Msg-Id %q is not of writer %s",
			errForeign, m.Sequence, m.Subject, m.Header.Get(nats.MsgIdHdr), w.token)
	}
	w.handled, w.last, w.known, w.numbers = max(w.handled, seq), m.Sequence, true, true
	return nil
}

// writerOfLocked returns the state of a Writer. The state of another one that is idle may be forgotten for it.
func (p *Publisher) writerOfLocked(key writerKey) *writer {
	w := p.writers[key]
	if w != nil {
		return w
	}
	if len(p.writers) >= maxWriters {
		p.forgetWritersLocked()
	}
	id := key.writer
	w = &writer{plain: key.plain}
	if w.plain { // It has another token after it was forgotten, because its numbers begin again.
		p.plain++
		binary.BigEndian.PutUint64(id[8:], p.plain)
		w.next = 1
	}
	w.token = key.user + "-" + id.String()
	p.writers[key] = w
	return w
}

// forgetWritersLocked forgets an eighth of the Writers without queued messages. They are read back when
// they come again.
func (p *Publisher) forgetWritersLocked() {
	queued := make(map[*writer]bool, len(p.queue))
	for _, part := range p.queue {
		queued[part.writer] = true
	}
	left := maxWriters / 8
	for key, w := range p.writers {
		if w.taken || queued[w] {
			continue
		}
		delete(p.writers, key)
		if left--; left == 0 {
			return
		}
	}
}
