# SPDX-License-Identifier: Apache-2.0
"""Waiting for sockets: the only difference between the blocking and the asyncio engines.

The engines are coroutines that read and write sockets which never block, and that await nothing but
the methods of an IO. With BlockingIO these methods block the thread and never suspend, so that drive can run
a coroutine to its end. With AsyncIO they suspend the task.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import socket
import threading
from typing import Any, Callable, Coroutine, List, Optional, Protocol, Tuple, TypeVar

T = TypeVar("T")
SockAddrs = List[Tuple[Any, ...]]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as e:
        result: T = e.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking coroutine was suspended")


class IO(Protocol):
    """Waits on behalf of one engine. Only wake may be called from other threads."""

    async def wait(self, sock: Optional[socket.socket], read: bool, write: bool, timeout: Optional[float]) -> None:
        """Wait until the socket is ready, wake is called or the time has passed."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the program; the result of a coroutine function is awaited."""

    async def pause(self) -> None:
        """Let other tasks run."""

    async def resolve(self, host: str, port: int, passive: bool) -> SockAddrs:
        """Resolve the name of a host."""

    def wake(self) -> None:
        """End the wait that runs, or the next one."""

    def close(self) -> None:
        """Release what the waits have used."""


class BlockingIO:
    """Blocks the thread."""

    def __init__(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()  # Guards what follows, and the pipe.
        self._woken = False  # There is a byte in the pipe, or the pipe is closed.

    async def wait(self, sock: Optional[socket.socket], read: bool, write: bool, timeout: Optional[float]) -> None:
        """Wait with poll(2)."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if sock is not None and (read or write):
            poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        ready = poll.poll(None if timeout is None else max(0, int(timeout * 1000) + 1))
        if any(fd == self._wake_read for fd, _ in ready):
            with self._lock:
                os.read(self._wake_read, 1)
                self._woken = False

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in this thread."""
        return function(*args)

    async def pause(self) -> None:
        """Other threads run anyway."""

    async def resolve(self, host: str, port: int, passive: bool) -> SockAddrs:
        """Resolve a name with getaddrinfo."""
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_flags(passive)))

    def wake(self) -> None:
        """Write a byte into the pipe that wait polls."""
        with self._lock:
            if not self._woken:
                self._woken = True
                os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """Close the pipe. It must not be called twice."""
        with self._lock:
            self._woken = True
            os.close(self._wake_read)
            os.close(self._wake_write)


class AsyncIO:
    """Suspends the task. All its methods belong to the thread of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: Optional[asyncio.Future[None]] = None
        self._woken = False

    async def wait(self, sock: Optional[socket.socket], read: bool, write: bool, timeout: Optional[float]) -> None:
        """Wait with the event loop. It suspends at least once."""
        if self._woken:
            timeout = 0
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiter = waiter
        timer = None if timeout is None else self._loop.call_later(max(0.0, timeout), _finish, waiter)
        try:
            if sock is not None and read:
                self._loop.add_reader(sock, _finish, waiter)
            if sock is not None and write:
                self._loop.add_writer(sock, _finish, waiter)
            await waiter
        finally:
            self._waiter, self._woken = None, False
            if timer is not None:
                timer.cancel()
            if sock is not None and read:
                self._loop.remove_reader(sock)
            if sock is not None and write:
                self._loop.remove_writer(sock)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and await what it returns if that is awaitable."""
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    async def pause(self) -> None:
        """Let the event loop run."""
        await asyncio.sleep(0)

    async def resolve(self, host: str, port: int, passive: bool) -> SockAddrs:
        """Resolve a name with the event loop."""
        return list(await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_flags(passive)))

    def wake(self) -> None:
        """Complete the future that wait awaits."""
        self._woken = True
        if self._waiter is not None:
            _finish(self._waiter)

    def close(self) -> None:
        """Nothing is kept."""


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _flags(passive: bool) -> int:
    return socket.AI_PASSIVE if passive else 0
