// SPDX-License-Identifier: Apache-2.0

package main

// This file writes deliveries as lines, JSON and frames.

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/udsipc/udsipc"
)

// A formatter appends a delivery to a text.
type formatter func(text []byte, d *udsipc.Delivery, received time.Time) []byte

func appendLine(text []byte, d *udsipc.Delivery, _ time.Time) []byte {
	return append(append(text, d.Data...), '\n')
}

func appendFrame(text []byte, d *udsipc.Delivery, _ time.Time) []byte {
	return append(binary.AppendUvarint(text, uint64(len(d.Data))), d.Data...)
}

// A deliveryLine is a delivery as JSON. docs/TOOL.md describes it.
type deliveryLine struct {
	Time        time.Time `json:"time"`
	Peer        peerLine  `json:"peer"`
	Writer      string    `json:"writer,omitempty"`
	Seq         uint64    `json:"seq"`
	Redelivered bool      `json:"redelivered,omitempty"`
	Data        *string   `json:"data,omitempty"`
	Base64      []byte    `json:"base64,omitempty"`
}

type peerLine struct {
	ID   uint64 `json:"id"`
	Addr string `json:"addr,omitempty"`
	PID  *int   `json:"pid,omitempty"`
	UID  *int   `json:"uid,omitempty"`
	GID  *int   `json:"gid,omitempty"`
	TLS  string `json:"tls,omitempty"` // The subject of the certificate.
}

func appendJSON(text []byte, d *udsipc.Delivery, received time.Time) []byte {
	line := deliveryLine{Time: received.UTC(), Peer: newPeerLine(d.Peer), Seq: d.Seq, Redelivered: d.Redelivered}
	if d.Writer != (udsipc.WriterID{}) {
		line.Writer = d.Writer.String()
	}
	if utf8.Valid(d.Data) {
		data := string(d.Data)
		line.Data = &data
	} else {
		line.Base64 = d.Data
	}
	encoder := json.NewEncoder((*appender)(&text))
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(line) // It writes to memory, and no value of the line can fail.
	return text
}

func newPeerLine(p udsipc.Peer) peerLine {
	line := peerLine{ID: p.ID}
	if p.Addr != nil {
		line.Addr = p.Addr.String()
	}
	if line.Addr == "@" { // A Unix socket without a name.
		line.Addr = ""
	}
	if c := p.Credentials; c != nil {
		line.PID, line.UID, line.GID = &c.PID, &c.UID, &c.GID
	}
	if p.TLS != nil && len(p.TLS.PeerCertificates) > 0 {
		line.TLS = p.TLS.PeerCertificates[0].Subject.String()
	}
	return line
}

// visible returns a formatter for a terminal.
func visible(format formatter) formatter {
	var text []byte
	return func(to []byte, d *udsipc.Delivery, received time.Time) []byte {
		text = format(text[:0], d, received)
		return appendVisible(to, text)
	}
}

// appendVisible appends a text as it may be shown on a terminal: what a peer has sent can neither move the cursor nor
// send keys. Control characters and other invisible ones become \u001b, which JSON means the same by; bytes that are
// no UTF-8 become \xff.
func appendVisible(to, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			to = fmt.Appendf(to, `\x%02x`, text[0])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			to = append(to, text[:size]...)
		case r > 0xffff: // Two of UTF-16, as in JSON.
			high, low := utf16.EncodeRune(r)
			to = fmt.Appendf(to, `\u%04x\u%04x`, high, low)
		default:
			to = fmt.Appendf(to, `\u%04x`, r)
		}
		text = text[size:]
	}
	return to
}

// visibleText is appendVisible for a message of the program, which may quote a peer.
func visibleText(text string) string { return string(appendVisible(nil, []byte(text))) }
