# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: socket files that are replaced safely, abstract names, TCP, and those of systemd."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager
from typing import Dict, Iterator, Optional, Tuple

from ._address import Address
from .errors import InvalidAddressError, SocketInUseError

BACKLOG = 4096
FIRST_DESCRIPTOR = 3
LOCK_WAIT = 1.0  # How long to wait for another process that creates a socket at the same path, in seconds.


class Listener:
    """A listening socket. inode identifies its file, if it has made one."""

    def __init__(self, sock: socket.socket, path: str = "", inode: Optional[Tuple[int, int]] = None,
                 passed: bool = False) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.passed = passed  # systemd keeps it: its backlog is left to the next process.
        self._path = path
        self._inode = inode

    def refuse(self) -> bool:
        """Have the kernel refuse further connections. It returns whether the backlog can still be accepted."""
        if self.passed or not self._path and self.sock.family != socket.AF_UNIX or sys.platform != "linux":
            return False
        self.sock.shutdown(socket.SHUT_RD)
        return True

    def remove_file(self) -> None:
        """Remove the socket file, unless it is another one by now."""
        if self._inode is None:
            return
        try:
            found = os.lstat(self._path)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self._path)
        except OSError:
            pass  # It has been removed already.
        self._inode = None


def listen(address: Address, mode: int, systemd_name: Optional[str], sockaddr: object) -> Listener:
    """Return the socket that systemd has passed, or a new one. sockaddr is that of a TCP address."""
    passed = find_passed(address, systemd_name)
    if passed is not None:
        return Listener(passed, passed=True)
    if systemd_name is not None:
        raise InvalidAddressError(f"systemd has passed no socket with the name {systemd_name!r}")
    if address.is_file:
        return listen_at(address.path, mode)
    if address.is_tcp:
        family = socket.AF_INET6 if isinstance(sockaddr, tuple) and len(sockaddr) == 4 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if address.is_tcp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(sockaddr if address.is_tcp else address.path)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise SocketInUseError(f"another process listens at {address.text}") from None
        raise
    return Listener(sock)


def listen_at(path: str, mode: int) -> Listener:
    """Create a socket file with a mode, in the place of a stale one."""
    path = os.path.abspath(path)
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o750, exist_ok=True)
    check_directories(directory)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with lock_name(directory, name):
            remove_stale(path)
            try:
                os.fchmod(sock.fileno(), mode)  # Linux: the file gets it, less the umask.
            except OSError:
                pass
            sock.bind(path)
            made = os.lstat(path)
            os.chmod(path, mode)  # The umask may have taken bits away.
            sock.listen(BACKLOG)
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise SocketInUseError(f"{path} was taken by another process") from None
        raise
    except BaseException:
        sock.close()
        raise
    return Listener(sock, path, (made.st_dev, made.st_ino))


def check_directories(directory: str) -> None:
    """Raise InvalidAddressError if another user could replace a part of the path."""
    todo = [part for part in directory.split("/") if part]
    at, links = "/", 0
    _check_directory(at)
    while todo:
        part = todo.pop(0)
        if part == "..":
            at = os.path.dirname(at)
            continue
        found = os.lstat(os.path.join(at, part))
        if not stat.S_ISLNK(found.st_mode):
            at = os.path.join(at, part)
            _check_directory(at)
            continue
        links += 1
        if found.st_uid not in _trusted() or links > 40:
            raise InvalidAddressError(f"{os.path.join(at, part)} is a symbolic link of user {found.st_uid}")
        target = os.readlink(os.path.join(at, part))
        if target.startswith("/"):
            at = "/"
        todo = [p for p in target.split("/") if p and p != "."] + todo


def _check_directory(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidAddressError(f"{path} is no directory")
    if found.st_uid not in _trusted():
        raise InvalidAddressError(f"{path} belongs to user {found.st_uid}: give it to root or to this user")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise InvalidAddressError(f"others may write to {path}: chmod go-w {path}")


def _trusted() -> Tuple[int, ...]:
    users = (0, os.geteuid())
    try:  # In a user namespace where root has no mapping, the overflow user owns what root owns.
        with open("/proc/self/uid_map") as f:
            mapped = any(int(line.split()[0]) == 0 for line in f)
    except OSError:
        mapped = True
    return users if mapped else users + (65534,)


def remove_stale(path: str) -> None:
    """Remove a socket that no process listens on. Any other file is an error."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise InvalidAddressError(f"{path} is no socket: it is not replaced")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code == errno.ENOENT:
        return
    if code != errno.ECONNREFUSED:
        raise SocketInUseError(f"a process listens at {path} ({errno.errorcode.get(code, code)})")
    os.unlink(path)


@contextmanager
def lock_name(directory: str, name: str) -> Iterator[None]:
    """Hold the lock file of a socket. One that belongs to another user is not waited for."""
    path = os.path.join(directory, f".{name}.lock")
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            if not os.path.lexists(path):
                raise
            yield
            return
        held = os.fstat(fd)
        if held.st_uid != os.geteuid() or not stat.S_ISREG(held.st_mode) or held.st_mode & 0o077:
            os.close(fd)
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(path) and os.path.samestat(os.lstat(path), held):
                break
        except BlockingIOError:
            pass
        os.close(fd)
        if time.monotonic() > deadline:
            raise SocketInUseError(f"another process has been creating {directory}/{name} for {LOCK_WAIT} s")
        time.sleep(0.001)
    try:
        yield
    finally:
        os.unlink(path)
        os.close(fd)


_passed: Optional[Dict[int, Tuple[str, socket.socket]]] = None


def passed_sockets() -> Dict[int, Tuple[str, socket.socket]]:
    """Return the sockets that systemd has passed and that no Reader uses: descriptor, name and socket.

    Child processes inherit neither the variables nor the descriptors afterwards.
    """
    global _passed
    if _passed is None:
        _passed = {}
        environment = {key: os.environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
        if environment["LISTEN_PID"] == str(os.getpid()) and environment["LISTEN_FDS"].isdigit():
            names = environment["LISTEN_FDNAMES"].split(":")
            for i in range(int(environment["LISTEN_FDS"])):
                fd = FIRST_DESCRIPTOR + i
                os.set_inheritable(fd, False)
                _passed[fd] = (names[i] if i < len(names) else "", socket.socket(fileno=fd))
    return _passed


def find_passed(address: Address, name: Optional[str]) -> Optional[socket.socket]:
    """Take the passed socket with a name, or the only one."""
    passed = passed_sockets()
    found = [fd for fd, (its, _) in passed.items() if name is None or its == name]
    if not found:
        return None
    if len(found) > 1:
        raise InvalidAddressError(f"systemd has passed {len(found)} sockets: select one by systemd_name")
    its, sock = passed[found[0]]
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise InvalidAddressError(f"descriptor {found[0]} ({its}) is no listening stream socket")
    del passed[found[0]]
    return sock
