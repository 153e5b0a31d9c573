# SPDX-License-Identifier: Apache-2.0
"""Ends of connections that a test writes byte by byte, and a proxy that cuts connections."""

import select
import socket
import threading

from conftest import PATIENCE

from udsipc.session import BackDecoder, split_hello
from udsipc.wire import IncompleteError


class Listener:
    """A listening socket of a test."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.socket.settimeout(PATIENCE)

    def accept(self):
        return Connection(self.socket.accept()[0])

    def close(self):
        self.socket.close()


class Connection:
    """An accepted or a made connection."""

    def __init__(self, sock):
        self.socket = sock
        sock.settimeout(PATIENCE)
        self.data = b""

    @classmethod
    def connect(cls, path):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(sock)

    def expect(self, want):
        """Read exactly these bytes."""
        while len(self.data) < len(want):
            part = self.socket.recv(len(want) - len(self.data))
            assert part, ("end of file", self.data, want)
            self.data += part
        assert self.data[: len(want)] == want, (self.data, want)
        self.data = self.data[len(want) :]

    def hello(self):
        """Read a hello."""
        while True:
            try:
                hello, end = split_hello(self.data)
                self.data = self.data[end:]
                return hello
            except IncompleteError:
                part = self.socket.recv(4096)
                assert part, "end of file"
                self.data += part

    def back(self, condition):
        """Read acknowledgements and heartbeats until a condition holds, and return all of them."""
        decoder, items = BackDecoder(), []
        while True:
            items += decoder.feed(self.data)
            self.data = b""
            if condition(items):
                return items
            self.data = self.socket.recv(4096)
            assert self.data, ("end of file", items)

    def send(self, data):
        self.socket.sendall(data)

    def rest(self):
        """Read to the end of file."""
        while part := self.socket.recv(1 << 16):
            self.data += part
        data, self.data = self.data, b""
        return data

    def close(self):
        self.socket.close()


class Proxy:
    """Forwards connections of a socket to another one. cut(direction, n) ends the next one after n bytes."""

    def __init__(self, path, target):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.target = target
        self.cuts = []
        self.was_cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, direction, n):
        self.cuts.append((direction, n))

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            cut = self.cuts.pop(0) if self.cuts else (None, 0)
            threading.Thread(target=self._forward, args=(near, *cut), daemon=True).start()

    def _forward(self, near, direction, n):
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.target)
            left = {"up": n if direction == "up" else None, "down": n if direction == "down" else None}
            ways = {near: ("up", far), far: ("down", near)}
            while ways:
                if 0 in left.values():
                    self.was_cut += 1
                    return
                for source in select.select(list(ways), [], [])[0]:
                    way, sink = ways[source]
                    data = source.recv(1 << 16 if left[way] is None else left[way])
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        del ways[source]
                        continue
                    sink.sendall(data)
                    if left[way] is not None:
                        left[way] -= len(data)
        except OSError:
            pass
        finally:
            near.close()
            far.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
