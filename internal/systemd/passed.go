// SPDX-License-Identifier: Apache-2.0

// Package systemd has everything that a Reader gets from systemd and sends to it: passed sockets
// (socket activation), notifications, the watchdog's keep-alive pings, and the descriptor store. No
// other package reads the environment.
package systemd

// This file loads the descriptors that systemd passed to this process (sd_listen_fds(3)): sockets
// that systemd opened, and descriptors that an earlier process of the service stored (store.go).

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
	maxPassed     = 1 << 16   // More than the default limit of any process.
	unnamedPassed = "unknown" // The name of a descriptor without FileDescriptorName=.
)

var activationVariables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// passedSockets has the descriptors that systemd passed. Listening sockets stay open while the
// process lives, so that a later Reader can use the socket of a stopped one.
var passedSockets struct {
	mu   sync.Mutex
	list []*Passed
}

// A Passed is one passed descriptor.
type Passed struct {
	fd    int
	name  string
	inUse bool // By a running Reader, or permanently. Guarded by passedSockets.mu.
}

func (p *Passed) String() string {
	return fmt.Sprintf("descriptor %d, named %q", p.fd, p.name)
}

// An unclaimedDescriptor is a passed descriptor that is not in use.
type unclaimedDescriptor struct {
	FD   int
	Name string
}

// UnclaimedDescriptors returns the passed descriptors that are not in use, or no longer.
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

// CloseUnclaimed closes a descriptor that is not in use, and removes it from systemd's store
// (FDSTOREREMOVE=1, sd_notify(3)). It does nothing if the descriptor is in use or closed meanwhile.
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

// takeFile transfers the descriptor to the caller permanently.
func (p *Passed) takeFile() *os.File {
	file := os.NewFile(uintptr(p.fd), p.name)
	p.fd, p.inUse = -1, true
	return file
}

// parseActivation parses the variables of socket activation for process pid. It returns the name of
// each descriptor; the first descriptor is number 3. If the variables are for another process, it
// returns none and no error. Invalid variables for this process are an error.
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

// loadPassedLocked reads the environment once and clears its variables: they are for this process
// and not for its children (sd_listen_fds(3), unset_environment).
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

// TakePassed returns the passed socket with this name; without a name, the only one. It returns nil
// if systemd passed none to this process, or if another Reader uses the only one.
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

// Release makes the socket available to other Readers.
func (p *Passed) Release() {
	if p == nil || p.fd < 0 {
		return
	}
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	p.inUse = false
}
