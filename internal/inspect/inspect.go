// SPDX-License-Identifier: Apache-2.0

// Package inspect examines an address from outside: the socket file and the way to it, who listens, which protocol is
// spoken there, and which limits of the system apply. It sends no message, and changes nothing. Where a system does
// not tell something, the report does not have it.
package inspect

// This file is the examination, and the report that it makes.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/socket"
)

// A Level tells how much a finding matters.
type Level string

// The levels.
const (
	OK      Level = "ok"      // As it should be.
	Note    Level = "note"    // Worth knowing.
	Problem Level = "problem" // A writer cannot send, or messages or their secrecy are in danger.
)

// A Finding is what was found about one thing.
type Finding struct {
	Level  Level  `json:"level"`
	About  string `json:"about"` // One word: path, directory, file, connect, listener, protocol, TLS, limits.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // What to do.
}

// The kinds of addresses.
const (
	KindFile     = "file"
	KindAbstract = "abstract"
	KindTCP      = "tcp"
)

// A Report is all that was found.
type Report struct {
	Address   string    `json:"address"`
	Kind      string    `json:"kind"`
	Listening bool      `json:"listening"` // A connection was accepted, or is waiting to be.
	Stale     bool      `json:"stale"`     // There is a socket file, and nobody listens.
	Listeners []Process `json:"listeners"` // Those who hold the listening socket, as far as this user may see.
	Speaks    Speaks    `json:"speaks"`
	Findings  []Finding `json:"findings"`
}

// A Process holds a listening socket.
type Process struct {
	PID        int    `json:"pid"`
	Name       string `json:"name"`
	Executable string `json:"executable"`
	UID        int    `json:"uid"`
	Unit       string `json:"unit"`       // Of systemd; empty without one.
	OpenFiles  int    `json:"open_files"` // -1: not permitted to see.
	MaxFiles   uint64 `json:"max_files"`  // 0: not known.
	Listens    bool   `json:"listens"`    // It called listen, as the kernel tells who connects.
}

// Speaks is which protocol the listener speaks. Without Known, nothing was found out.
type Speaks struct {
	Known    bool   `json:"known"`
	Reader   bool   `json:"reader"`   // A Reader, or what behaves as one.
	Sessions uint64 `json:"sessions"` // The version of sessions; 0 without them.
	Duplex   bool   `json:"duplex"`   // A server of package duplex or rpc.
	TLS      bool   `json:"tls"`
	Limit    uint64 `json:"limit"` // The largest message in bytes; 0: not known.
}

// Problems returns how many findings are problems, and how many are worth knowing.
func (r *Report) Problems() (problems, notes int) {
	for _, f := range r.Findings {
		switch f.Level {
		case Problem:
			problems++
		case Note:
			notes++
		}
	}
	return problems, notes
}

// An Examination is how an address is examined.
type Examination struct {
	Within time.Duration // How long each connection may take.
	Quiet  bool          // Connect only, and ask nothing.
}

// A subject is an address while it is examined.
type subject struct {
	Examination
	*Report
	ctx       context.Context // Of the examination.
	address   socket.Address
	network   string
	name      string
	peerUID   int    // Who listens; -1: not known.
	forbidden bool   // This user may not connect.
	remote    string // The address that a connection was made to.
}

// Examine examines an address. The error is that of an address that cannot be one.
func (e Examination) Examine(ctx context.Context, address string) (*Report, error) {
	parsed, err := socket.Parse(address)
	if err != nil {
		return nil, err
	}
	s := &subject{
		Examination: e, Report: &Report{Address: parsed.String(), Listeners: []Process{}}, ctx: ctx,
		address: parsed, peerUID: -1,
	}
	s.network, s.name = parsed.Network()
	switch {
	case s.network == "tcp":
		s.Kind = KindTCP
	case parsed.IsFile():
		s.Kind = KindFile
	default:
		s.Kind = KindAbstract
	}
	s.examinePath()
	connected := s.examineConnect()
	if s.Listening || s.forbidden {
		s.examineListeners()
	}
	if connected && !s.Quiet {
		s.examineProtocol()
	}
	if s.Kind == KindFile {
		s.examineDirectory() // Who may own it depends on who listens.
	}
	s.examineLimits()
	return s.Report, nil
}

// add adds a finding.
func (s *subject) add(level Level, about, remedy, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{level, about, fmt.Sprintf(format, args...), remedy})
}

// examinePath checks the text of the address, and what lies at its path.
func (s *subject) examinePath() {
	switch s.Kind {
	case KindTCP:
		if !s.address.IsLoopback() {
			s.add(Note, "path", "Use WithTLS on both sides, or an address of this machine.",
				"%s is not of this machine alone: others on the network can reach it", s.name)
		}
		return
	case KindAbstract:
		s.add(Note, "path", "Use WithAuthorizer on both sides, or a socket file.",
			"an abstract name has no permissions: every process of the same network namespace may listen or connect")
		return
	}
	if length, most := len(s.name), socket.MaxPath(); length*10 > most*9 {
		s.add(Note, "path", "Use a shorter path, before a change makes it too long.",
			"the path has %d of %d bytes", length, most)
	} else {
		s.add(OK, "path", "", "the path has %d of %d bytes", length, most)
	}
	info, err := os.Lstat(s.name)
	if err == nil && info.Mode()&os.ModeSymlink != 0 {
		target, _ := os.Readlink(s.name)
		s.add(Note, "file", "Use the path of the socket itself: a Reader refuses to listen at a link.",
			"%s is a symbolic link to %q", s.name, target)
		if info, err = os.Stat(s.name); os.IsNotExist(err) {
			s.add(Problem, "file", "Start the reader at the path of the socket itself, and remove the link.",
				"the link leads nowhere: there is no file %s", target)
			return
		}
	}
	s.examineFile(info, err)
}

// examineFile checks the file at the path.
func (s *subject) examineFile(info os.FileInfo, err error) {
	switch {
	case os.IsNotExist(err):
		s.add(Problem, "file", "Start the reader, or check the path: it must be the same on both sides, also in containers.",
			"there is no file %s", s.name)
		return
	case errors.Is(err, syscall.ELOOP):
		s.add(Problem, "file", "Remove the link, and start the reader.", "%s leads nowhere: the links go in a circle", s.name)
		return
	case err != nil:
		s.add(Problem, "file", "Run this as the user of the writer, or as root, to see more.", "%v", err)
		return
	case info.Mode().Type() != os.ModeSocket:
		s.add(Problem, "file", "Move it away, or use another path.", "%s is no socket: its mode is %v", s.name, info.Mode())
		return
	}
	level, remedy, who := OK, "", ""
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		level, who = Note, ": every user who may enter the directory may connect"
		remedy = "If that is not meant, use WithSocketMode (0600 is the default), or WithAuthorizer."
	}
	s.add(level, "file", remedy, "the socket belongs to %s, mode %v%s", owners(info), info.Mode(), who)
}

// examineDirectory checks the directory of a socket file, and the way to it.
func (s *subject) examineDirectory() {
	dir := s.address.Directory()
	info, err := os.Stat(dir)
	if os.IsNotExist(err) {
		s.add(Problem, "directory", "A Reader makes it when it starts; for a service, RuntimeDirectory= of its unit does.",
			"there is no directory %s", dir)
		return
	}
	if err != nil {
		s.add(Problem, "directory", "Run this as the user of the reader, or as root, to see more.", "%v", err)
		return
	}
	uid := s.peerUID
	if file, err := os.Stat(s.name); uid < 0 && err == nil {
		uid = ownerOf(file)
	}
	sticky := ""
	if info.Mode()&os.ModeSticky != 0 {
		sticky = "; the sticky bit keeps users from each other's files"
	}
	if err := s.address.CheckDirectory(uid); err != nil {
		s.add(Problem, "directory", "A Reader does not start here. Do what the error says, or use another directory.",
			"%s belongs to %s, mode %v%s: %v", dir, owners(info), info.Mode(), sticky, plain(err))
		return
	}
	s.add(OK, "directory", "", "%s belongs to %s, mode %v%s", dir, owners(info), info.Mode(), sticky)
}
