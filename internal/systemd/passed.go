// SPDX-License-Identifier: Apache-2.0

// Package systemd is everything that a Reader gets from systemd and sends to it: passed sockets (socket activation),
// notifications, the watchdog's keep-alive pings, and the descriptor store. It alone reads the environment.
package systemd

// This file takes the descriptors that systemd passed to this process (sd_listen_fds(3)): sockets that it
// made, and what an earlier process of the service left with it (store.go).

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/udsipc/udsipc/internal/errdefs"
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
	list []*Passed
}

// A Passed is one descriptor.
type Passed struct {
	fd    int
	name  string
	inUse bool // By a Reader that is not stopped, or for good. Guarded by passedSockets.mu.
}

func (p *Passed) String() string {
	return fmt.Sprintf("descriptor %d, named %q", p.fd, p.name)
}

// An unclaimedDescriptor is one that nobody has taken.
type unclaimedDescriptor struct {
	FD   int
	Name string
}

// UnclaimedDescriptors returns what systemd passed and nobody has taken, or was given back.
func UnclaimedDescriptors() ([]unclaimedDescriptor, error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, err
	}
	var list []unclaimedDescriptor
	for _, passed := range passedSockets.list {
		if !passed.inUse {
			list = append(list, unclaimedDescriptor{FD: passed.fd, Name: passed.name})
		}
	}
	return list, nil
}

// CloseUnclaimed closes a descriptor that nobody has taken, and has systemd remove it from its store if it is there
// (FDSTOREREMOVE=1, sd_notify(3)). It does nothing if the descriptor was taken since, or is closed already.
func CloseUnclaimed(fd int, name string) error {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	for _, passed := range passedSockets.list {
		if passed.fd != fd || passed.inUse {
			continue
		}
		err := passed.takeFile().Close()
		if _, _, _, ok := parseStoreName(name); ok {
			err = errdefs.First(err, RemoveStored(name))
		}
		return err
	}
	return nil
}

// takeFile makes the descriptor the caller's, for good.
func (p *Passed) takeFile() *os.File {
	file := os.NewFile(uintptr(p.fd), p.name)
	p.fd, p.inUse = -1, true
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
		passed := &Passed{fd: firstPassed + i, name: name}
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

// TakePassed returns the socket that systemd passed under name; without a name, the only one there
// is. It returns nil when systemd passed none to this process, or when another Reader has the only one.
func TakePassed(name string) (net.Listener, *Passed, error) {
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
	passed.inUse = true
	return listener, passed, nil
}

// Release lets another Reader take the socket.
func (p *Passed) Release() {
	if p == nil || p.fd < 0 {
		return
	}
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	p.inUse = false
}
