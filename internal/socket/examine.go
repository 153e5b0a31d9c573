// SPDX-License-Identifier: Apache-2.0

package socket

// This file tells programs that look at a socket from outside what listening at it depends on.

// CheckDirectory returns why a Reader of a user would not listen at a socket file: another user may replace a part of
// its path. It creates nothing.
func (a Address) CheckDirectory(uid int) error {
	where, _ := a.split()
	dir, err := openDirectory(where, false, uid)
	if err != nil {
		return err
	}
	dir.close()
	return nil
}

// Directory returns the directory of the socket file.
func (a Address) Directory() string {
	where, _ := a.split()
	return where
}

// Network returns the network and the name as package net takes them: "unix" with a path or @name, "tcp" with a host
// and port.
func (a Address) Network() (network, name string) { return a.network, a.name }

// MaxPath returns the length of the longest path of a socket file on this system.
func MaxPath() int { return maxSocketPath() }

// LockName returns the name of the file that Readers lock while they create the socket file, in its directory.
func (a Address) LockName() string {
	_, name := a.split()
	return "." + name + ".lock"
}
