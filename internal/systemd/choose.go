// SPDX-License-Identifier: Apache-2.0

package systemd

// This file selects one of the passed sockets.

import (
	"fmt"
	"strconv"
	"strings"
)

// choosePassed selects a socket. Descriptors that an earlier Reader stored are not candidates. A
// descriptor that the program itself stored is one if it is a socket.
func choosePassed(all []*Passed, name string) (*Passed, error) {
	var list, sockets []*Passed
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
		list = sockets // Other descriptors belong to the program; they are an error only if there is no socket.
	}
	switch {
	case len(list) == 0:
		return nil, nil
	case len(list) > 1:
		return nil, fmt.Errorf("systemd passed %d sockets (%s); choose one with WithSystemdName, or none with WithoutSystemd",
			len(list), passedNames(list))
	case list[0].inUse:
		return nil, nil
	}
	return list[0], nil
}

func choosePassedByName(list, sockets []*Passed, name string) (*Passed, error) {
	var found bool
	for _, passed := range list {
		if passed.name != name {
			continue
		}
		if !passed.inUse {
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

func passedNames(list []*Passed) string {
	names := make([]string, len(list))
	for i, passed := range list {
		names[i] = strconv.Quote(passed.name)
	}
	return strings.Join(names, ", ")
}
