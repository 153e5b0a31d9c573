# SPDX-License-Identifier: Apache-2.0
"""The blocking client of rpc."""

from __future__ import annotations

import ssl
import threading
import time
from types import TracebackType
from typing import Callable, Iterator, Mapping, Optional, Type, Union

from .._address import parse_address
from .._dial import check_encryption, check_name
from .._io import IO, BlockingIO, drive
from ..errors import NotConnectedError
from ..wire import DEFAULT_LIMIT, MAX_LIMIT, copy_of
from ._core import ClientCore
from ._engine import ClientEngine
from ._pending import Notification, PendingCall, PendingStream
from .errors import Code, RpcError

Bytes = Union[bytes, bytearray, memoryview]


class ClientBase:
    """The options of a Client and an AsyncClient, and their checks.

    max_message_size limits requests and responses, max_bytes what waits to be sent. fail_fast has a
    call fail with Code.UNAVAILABLE while there is no connection, instead of waiting. tls is a context
    of the client side; server_name the name in the server's certificate, by default the host of the
    address. plaintext allows TCP beyond this machine without TLS. on_error is called with connection problems;
    without it they are logged (logger "udsipc").
    """

    def __init__(self, address: str, *, tls: Optional[ssl.SSLContext] = None,
                 server_name: Optional[str] = None, plaintext: bool = False,
                 max_message_size: int = DEFAULT_LIMIT, max_bytes: int = 64 << 20, fail_fast: bool = False,
                 dial_timeout: float = 1.0, max_backoff: float = 10.0, close_timeout: float = 5.0,
                 on_error: Optional[Callable[[Exception], object]] = None) -> None:
        if not 1 <= max_message_size <= MAX_LIMIT or max_bytes < 1:
            raise ValueError(f"max_message_size is {max_message_size}, max_bytes {max_bytes}")
        if min(dial_timeout, max_backoff) <= 0 or close_timeout < 0:
            raise ValueError("dial_timeout and max_backoff must be positive, close_timeout not negative")
        parsed = parse_address(address)
        check_encryption(parsed, tls, plaintext)
        check_name(parsed, tls, server_name)
        self._text = address
        self._lock = threading.RLock()
        self._core = ClientCore(max_message_size, max_bytes)
        self._fail_fast = fail_fast
        self._close_timeout = close_timeout
        self._dial_options = parsed, tls, server_name, dial_timeout, max_backoff
        self._on_error = on_error
        self._start()

    def _start(self) -> None:
        """Begin to run."""

    def _new_engine(self, io: IO, notify: Callable[[], None]) -> ClientEngine:
        return ClientEngine(io, self._core, *self._dial_options, self._lock, notify, self._on_error)

    def _begin(self, engine: ClientEngine, call: PendingCall) -> None:
        """Begin a call, with the lock held."""
        if self._fail_fast and not self._core.connected:
            engine.wanted = True
            engine.wake_if_sleeping()
            raise RpcError(Code.UNAVAILABLE, f"not connected: {engine.last_error}")
        self._core.begin(call)
        engine.wake_if_sleeping()

    def _expire(self, engine: ClientEngine, call: PendingCall, code: Code, message: str) -> None:
        """End a call whose time limit has passed, or whose caller does not wait any more."""
        self._core.cancel(call, RpcError(code, message))
        engine.wake_if_sleeping()


def deadline_of(timeout: Optional[float]) -> Optional[float]:
    """Return the time at which a timeout ends."""
    return None if timeout is None else time.monotonic() + timeout


class _Condition:
    """Wakes the threads that wait for one call."""

    def __init__(self, lock: threading.RLock) -> None:
        self._condition = threading.Condition(lock)
        self.notify = self._condition.notify_all

    def wait_for(self, condition: Callable[[], bool], deadline: Optional[float]) -> bool:
        """Wait until the condition holds. It returns False if the deadline has passed before."""
        while not condition():
            rest = None if deadline is None else deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return False
            self._condition.wait(rest)
        return True


class Client(ClientBase):
    """Calls the functions of a server of rpc. Any number of threads may share it.

    The options are those of ClientBase. Every error of a call is an RpcError. A Client has a thread, which
    begins at once. It does not survive os.fork.
    """

    def _start(self) -> None:
        self._changed = _Condition(self._lock)
        self._engine = self._new_engine(BlockingIO(), self._changed.notify)
        threading.Thread(target=lambda: drive(self._engine.run()), daemon=True,
                         name=f"udsipc client {self._text}").start()

    def call(self, method: str, request: Bytes = b"", timeout: Optional[float] = None, *,
             idempotent: bool = False, metadata: Optional[Mapping[str, str]] = None) -> bytes:
        """Call a method and return its response. The time limit and the metadata reach the handler.

        While there is no connection, the call waits. After a disconnect it fails with Code.CONNECTION_LOST if it
        was sent, because its outcome is unknown; an idempotent one is sent again, up to three times.
        """
        signal = _Condition(self._lock)
        call = PendingCall(method, copy_of(request), deadline_of(timeout), signal, idempotent, metadata)
        with self._lock:
            self._begin(self._engine, call)
            try:
                if not signal.wait_for(lambda: call.finished, call.deadline):
                    self._expire(self._engine, call, Code.DEADLINE_EXCEEDED, method)
            except BaseException:  # KeyboardInterrupt
                self._expire(self._engine, call, Code.CANCELED, method)
                raise
        if call.error is not None:
            raise call.error
        return call.response

    def notify(self, method: str, data: Bytes = b"") -> None:
        """Send a request without a response."""
        call = Notification(method, copy_of(data), None, self._changed)
        with self._lock:
            self._begin(self._engine, call)

    def stream(self, method: str, request: Bytes = b"", timeout: Optional[float] = None,
               metadata: Optional[Mapping[str, str]] = None) -> Stream:
        """Open a stream. The time limit is that of the whole stream."""
        signal = _Condition(self._lock)
        pending = PendingStream(method, copy_of(request), deadline_of(timeout), signal, metadata)
        with self._lock:
            self._begin(self._engine, pending)
        return Stream(self, pending, signal)

    def wait_connected(self, timeout: Optional[float] = None) -> None:
        """Wait until there is a connection. NotConnectedError has the cause."""
        with self._lock:
            self._engine.wanted = True
            self._engine.wake_if_sleeping()
            self._changed.wait_for(lambda: self._core.connected or self._engine.done, deadline_of(timeout))
            if not self._core.connected:
                raise NotConnectedError(f"not connected: {self._engine.last_error}") from self._engine.last_error

    def close(self, timeout: Optional[float] = None) -> None:
        """End the streams, wait for the calls in flight within the time limit, and disconnect."""
        with self._lock:
            self._engine.stop(time.monotonic() + (self._close_timeout if timeout is None else timeout))
            self._changed.wait_for(lambda: self._engine.done, None)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()


class Stream:
    """A stream of messages in both directions. One thread may send and one may receive at a time."""

    def __init__(self, client: Client, pending: PendingStream, signal: _Condition) -> None:
        self._client = client
        self._pending = pending
        self._signal = signal

    def _wait(self, condition: Callable[[], bool]) -> None:
        if not self._signal.wait_for(condition, self._pending.deadline):
            self._client._expire(self._client._engine, self._pending, Code.DEADLINE_EXCEEDED,
                                 "the time limit of the stream has passed")

    def send(self, message: Bytes) -> None:
        """Send a message. It waits while the server has the window unread."""
        client, pending, data = self._client, self._pending, copy_of(message)
        with client._lock:
            if len(data) + 32 > client._core.limit:
                raise RpcError(Code.TOO_LARGE, f"a message of {len(data)} bytes")

            def sendable() -> bool:
                pending.check_send()
                return pending.number > 0 and pending.credit > 0 and client._core.has_space

            self._wait(sendable)
            pending.check_send()
            client._core.send_about(pending, pending.encode_data(data))
            client._engine.wake_if_sleeping()

    def receive(self) -> Optional[bytes]:
        """Return the next message, or None at the end of the stream."""
        client, pending = self._client, self._pending
        with client._lock:
            message: Union[bytes, None, bool] = False

            def taken() -> bool:
                nonlocal message
                message = pending.take()
                return message is not False

            self._wait(taken)
            if isinstance(message, bool):  # The time limit has passed.
                message = pending.take()
            if message is None or isinstance(message, bool):
                return None
            client._core.send_about(pending, pending.return_credit(len(message)))
            client._engine.wake_if_sleeping()
            return message

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.receive()) is not None:
            yield message

    def close_send(self) -> None:
        """End the sending direction. This side may still receive."""
        with self._client._lock:
            if not self._pending.local_closed:
                self._client._core.close_send(self._pending)
                self._client._engine.wake_if_sleeping()

    def close(self) -> None:
        """End the stream at both ends."""
        with self._client._lock:
            if not self._pending.finished:
                self._client._expire(self._client._engine, self._pending, Code.CANCELED, "the stream was closed")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()
