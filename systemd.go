// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file takes the descriptors that systemd passed to this process (sd_listen_fds(3)): sockets that it
// made, and what an earlier process of the service left with it (systemd_store.go).

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

const (
	firstPassed   = 3         // SD_LISTEN_FDS_START
	maxPassed     = 1 << 16   // More than any process may have by default.
	unnamedPassed = "unknown" // What systemd calls a descriptor without FileDescriptorName=.
)

var activationVariables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// passedSockets are the descriptors that systemd passed. Listening ones stay open for as long as the
// process lives, so that a Reader that is stopped and one that takes its place can use the same.
var passedSockets struct {
	mu   sync.Mutex
	list []*passedSocket
}

// A passedSocket is one descriptor.
type passedSocket struct {
	fd    int
	name  string
	taken bool // By a Reader that is not stopped, or for good. Guarded by passedSockets.mu.
}

func (p *passedSocket) String() string {
	return fmt.Sprintf("descriptor %d, named %q", p.fd, p.name)
}

// A PassedDescriptor is a descriptor that systemd passed to this process.
type PassedDescriptor struct {
	FD   int    // Its number; it is open, and closed in children.
	Name string // FileDescriptorName= (systemd.socket(5)), FDNAME= (sd_notify(3)), or "unknown".
}

// PassedDescriptors returns those descriptors that systemd passed to this process and that no Reader
// has taken, or that were given back by a Reader that stopped. They belong to the program: call it once all Readers
// are started, and report or Close what should not be there. Connections among them are those that HandOver left for
// a Reader of another name or address; nobody reads them, and their writers wait. It returns none in a
// process that systemd did not start, and an error if what systemd says makes no sense.
func PassedDescriptors() ([]PassedDescriptor, error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, asOpError(OpActivate, "", err)
	}
	var list []PassedDescriptor
	for _, passed := range passedSockets.list {
		if !passed.taken {
			list = append(list, PassedDescriptor{FD: passed.fd, Name: passed.name})
		}
	}
	return list, nil
}

// Close closes the descriptor, and has systemd forget it if it is in its store (FDSTOREREMOVE=1, sd_notify(3)). It
// does nothing if a Reader has taken the descriptor since, or it is closed already.
func (d PassedDescriptor) Close() error {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	for _, passed := range passedSockets.list {
		if passed.fd != d.FD || passed.taken {
			continue
		}
		err := passed.take().Close()
		if _, _, _, ok := parseStoreName(d.Name); ok {
			err = firstError(err, notify(nil, notifyRemove, "FDNAME="+d.Name))
		}
		return asOpError(OpActivate, d.Name, err)
	}
	return nil
}

// take makes the descriptor the caller's, for good.
func (p *passedSocket) take() *os.File {
	file := os.NewFile(uintptr(p.fd), p.name)
	p.fd, p.taken = -1, true
	return file
}

// parseActivation reads the variables by which systemd tells process pid what it passed: the name of
// each descriptor, from number 3 on. None, without an error, is what a process gets that was not
// meant; variables that are meant for it but make no sense are an error.
func parseActivation(pid int, listenPID, listenFDs, fdNames string, namesSet bool) ([]string, error) {
	if listenPID == "" || listenFDs == "" {
		return nil, nil
	}
	meant, err := strconv.Atoi(listenPID)
	if err != nil || meant <= 0 {
		return nil, fmt.Errorf("LISTEN_PID is %q, not the number of a process", listenPID)
	}
	if meant != pid {
		return nil, nil
	}
	count, err := strconv.Atoi(listenFDs)
	if err != nil || count < 0 || count > maxPassed {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number from 0 to %d", listenFDs, maxPassed)
	}
	if !namesSet || count == 0 {
		names := make([]string, count)
		for i := range names {
			names[i] = unnamedPassed
		}
		return names, nil
	}
	names := strings.Split(fdNames, ":")
	if len(names) != count {
		return nil, fmt.Errorf("LISTEN_FDNAMES is %q, which is %d names for %d descriptors", fdNames, len(names), count)
	}
	return names, nil
}

// loadPassedLocked takes note of what the environment says, once, and then clears it: the variables
// are for this process and not for its children (sd_listen_fds(3), unset_environment).
func loadPassedLocked() error {
	fdNames, namesSet := os.LookupEnv("LISTEN_FDNAMES")
	names, err := parseActivation(os.Getpid(), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), fdNames, namesSet)
	if err != nil || names == nil {
		return err
	}
	passedSockets.list = nil
	for i, name := range names {
		passed := &passedSocket{fd: firstPassed + i, name: name}
		closeOnExec(passed.fd)
		passedSockets.list = append(passedSockets.list, passed)
	}
	for _, variable := range activationVariables {
		if err := os.Unsetenv(variable); err != nil {
			return err
		}
	}
	return nil
}

// takePassed returns the socket that systemd passed under name; without a name, the only one there
// is. It returns nil when systemd passed none to this process, or when another Reader has the only one.
func takePassed(name string) (net.Listener, *passedSocket, error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, nil, err
	}
	passed, err := choosePassed(passedSockets.list, name)
	if passed == nil || err != nil {
		return nil, nil, err
	}
	listener, err := passedListener(passed)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: %w", passed, err)
	}
	passed.taken = true
	return listener, passed, nil
}

// choosePassed picks one of the sockets. What an earlier process has left is not one of them; what the program
// itself has left is, if it is a socket.
func choosePassed(all []*passedSocket, name string) (*passedSocket, error) {
	var list, sockets []*passedSocket
	for _, passed := range all {
		if _, _, _, ok := parseStoreName(passed.name); ok {
			continue
		}
		list = append(list, passed)
		if passed.fd < 0 || checkStream(passed.fd) == nil {
			sockets = append(sockets, passed)
		}
	}
	if name != "" {
		return choosePassedByName(list, sockets, name)
	}
	if len(sockets) > 0 {
		list = sockets // The others are the program's own, or an error if there is nothing else.
	}
	switch {
	case len(list) == 0:
		return nil, nil
	case len(list) > 1:
		return nil, fmt.Errorf("systemd passed %d sockets (%s); choose one with WithSystemdName, or none with WithoutSystemd",
			len(list), passedNames(list))
	case list[0].taken:
		return nil, nil
	}
	return list[0], nil
}

func choosePassedByName(list, sockets []*passedSocket, name string) (*passedSocket, error) {
	var found bool
	for _, passed := range list {
		if passed.name != name {
			continue
		}
		if !passed.taken {
			return passed, nil
		}
		found = true
	}
	switch {
	case found:
		return nil, fmt.Errorf("another Reader has the socket %q (WithSystemdName)", name)
	case len(sockets) == 0:
		return nil, nil
	}
	return nil, fmt.Errorf("systemd passed no socket %q (WithSystemdName); there are: %s", name, passedNames(sockets))
}

func passedNames(list []*passedSocket) string {
	names := make([]string, len(list))
	for i, passed := range list {
		names[i] = strconv.Quote(passed.name)
	}
	return strings.Join(names, ", ")
}

// release lets another Reader take the socket.
func (p *passedSocket) release() {
	if p == nil || p.fd < 0 {
		return
	}
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	p.taken = false
}

// A passedConnection is the listener of a service with Accept=yes (systemd.socket(5)), which gets one
// connection that systemd has accepted. It gives out that one, and then io.EOF.
type passedConnection struct {
	conn  net.Conn
	given bool // Accept is called by one goroutine.
}

func (l *passedConnection) Accept() (net.Conn, error) {
	if l.given {
		return nil, io.EOF
	}
	l.given = true
	return l.conn, nil
}

func (l *passedConnection) Close() error { return nil } // The connection is for whom it was given to.

func (l *passedConnection) Addr() net.Addr { return l.conn.LocalAddr() }
