// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a server gets its listener.

// listenLocked finds the listener: the one that was given, the one that systemd passed, or a new one.
func (a *acceptor) listenLocked() (err error) {
	if a.server.cfg.listener != nil {
		a.listener = a.server.cfg.listener
		return nil
	}
	if !a.server.cfg.withoutSystemd {
		if a.listener, a.passed, err = takePassed(a.server.cfg.systemdName); err != nil {
			return withOp(opActivate, a.server.cfg.addrText, err)
		}
		if err := a.checkPassedLocked(); err != nil {
			return withOp(opActivate, a.server.cfg.addrText, err)
		}
		if err := a.inheritLocked(); err != nil {
			return withOp(opListen, a.server.cfg.addrText, err)
		}
	}
	if a.listener == nil {
		a.listener, a.file, err = listen(a.server.cfg.socket)
	}
	return withOp(opListen, a.server.cfg.addrText, err)
}

// checkPassedLocked gives a socket that systemd passed back if what comes there could be read on the way.
func (a *acceptor) checkPassedLocked() error {
	if a.passed == nil {
		return nil
	}
	err := a.server.cfg.checkPassed(a.listener.Addr())
	if err != nil {
		if conn := onlyConnection(a.listener); conn != nil {
			closeNow(conn)
		}
		err = firstError(err, a.listener.Close())
		a.passed.release()
		a.listener, a.passed = nil, nil
	}
	return err
}

// inheritLocked takes what an earlier process has left.
func (a *acceptor) inheritLocked() error {
	if a.inherited == nil {
		a.inherited = loadInherited(a.server.cfg.storeKey)
	}
	listener, file, err := a.inherited.takeListener(a.server.cfg.socket, a.listener == nil)
	if listener != nil {
		a.listener, a.file = listener, file
	}
	return err
}
