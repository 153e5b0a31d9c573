// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
)

// This file finds the listener of a server.

// listenLocked sets the listener: that of WithListener, the one that systemd passed, or a new one.
func (a *acceptor) listenLocked() (err error) {
	if a.server.cfg.Listener != nil {
		a.listener = a.server.cfg.Listener
		return nil
	}
	if !a.server.cfg.WithoutSystemd {
		if a.listener, a.passed, err = systemd.TakePassed(a.server.cfg.SystemdName); err != nil {
			return errdefs.WithOp(errdefs.OpActivate, a.server.cfg.AddrText, err)
		}
		if err := a.checkPassedLocked(); err != nil {
			return errdefs.WithOp(errdefs.OpActivate, a.server.cfg.AddrText, err)
		}
		if err := a.inheritLocked(); err != nil {
			return errdefs.WithOp(errdefs.OpListen, a.server.cfg.AddrText, err)
		}
	}
	if a.listener == nil {
		a.listener, a.file, err = socket.Listen(a.server.cfg.Socket)
	}
	return errdefs.WithOp(errdefs.OpListen, a.server.cfg.AddrText, err)
}

// checkPassedLocked rejects a passed listener whose messages could be read on the way.
func (a *acceptor) checkPassedLocked() error {
	if a.passed == nil {
		return nil
	}
	err := a.server.cfg.CheckPassed(a.listener.Addr())
	if err != nil {
		if conn := systemd.OnlyConnection(a.listener); conn != nil {
			transport.CloseNow(conn)
		}
		err = errdefs.First(err, a.listener.Close())
		a.passed.Release()
		a.listener, a.passed = nil, nil
	}
	return err
}

// inheritLocked loads what an earlier process has stored.
func (a *acceptor) inheritLocked() error {
	if a.inherited == nil {
		a.inherited = loadInherited(a.server.cfg.StoreKey)
	}
	listener, file, err := a.inherited.takeListener(a.server.cfg.Socket, a.listener == nil)
	if listener != nil {
		a.listener, a.file = listener, file
	}
	return err
}
