# SPDX-License-Identifier: Apache-2.0
"""Addresses: a path, unix:PATH, @name (Linux abstract) or tcp://HOST:PORT."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Union

from .errors import InvalidAddressError

MAX_PATH = 107  # Bytes of a path in a socket address on Linux; elsewhere a few less.


@dataclass(frozen=True)
class Address:
    """A parsed address. A TCP address has a host, an abstract one a name that begins with a zero byte."""

    text: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_tcp(self) -> bool:
        """Whether this is a TCP address."""
        return not self.path

    @property
    def is_file(self) -> bool:
        """Whether this is the path of a socket file."""
        return bool(self.path) and not self.path.startswith("\0")

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can connect."""
        if not self.is_tcp or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: Union[str, Address]) -> Address:
    """Return the parsed address. A malformed one is an InvalidAddressError."""
    if isinstance(text, Address):
        return text
    if text.startswith("tcp://"):
        host, colon, port = text[len("tcp://") :].rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise InvalidAddressError(f"{text!r} has no port: tcp://HOST:PORT")
        try:
            host.encode("idna")  # As getaddrinfo does.
        except UnicodeError as e:
            raise InvalidAddressError(f"{text!r} has no host: {e}") from None
        return Address(text, host=host.strip("[]") or "::", port=int(port))
    path = text[len("unix:") :] if text.startswith("unix:") else text
    if not path or "\0" in path:
        raise InvalidAddressError(f"{text!r} is no path")
    if path.startswith("@"):
        path = "\0" + path[1:]
    if len(path.encode()) > MAX_PATH:
        raise InvalidAddressError(f"{text!r} has more than {MAX_PATH} bytes")
    return Address(text, path=path)
