# SPDX-License-Identifier: Apache-2.0
"""The blocking Writer."""

from __future__ import annotations

import ssl
import threading
import time
from types import TracebackType
from typing import Callable, Optional, Type, Union

from ._address import parse_address
from ._dial import check_encryption, check_name
from ._io import IO, BlockingIO, drive
from ._queue import Overflow, SendQueue, WriterMetrics
from ._writer_engine import WriterEngine, WriterOptions
from .errors import BufferFullError, NotConnectedError, NotDeliveredError, StoppedError
from .wire import DEFAULT_LIMIT, MAX_LIMIT, copy_of

Bytes = Union[bytes, bytearray, memoryview]


class LossCounter:
    """Remembers which losses flush or close has raised."""

    def __init__(self) -> None:
        self._dropped = self._undelivered = self._lost = 0

    def check(self, metrics: WriterMetrics, left: int) -> None:
        """Raise NotDeliveredError for the losses since the last check, and for messages that are left."""
        dropped, undelivered = metrics.dropped - self._dropped, metrics.undelivered - self._undelivered
        lost = metrics.possibly_lost - self._lost
        self._dropped, self._undelivered, self._lost = metrics.dropped, metrics.undelivered, metrics.possibly_lost
        if left or dropped or undelivered or lost:
            raise NotDeliveredError(left, dropped, undelivered, lost)


class WriterBase:
    """The options of a Writer and an AsyncWriter, and their checks.

    acknowledged opens sessions: a message counts as sent when the reader's handler has returned.
    max_messages and max_bytes bound the queue, overflow says what write does if it is full.
    tls is the context of the client side; server_name the name in the reader's certificate, by default the
    host of the address. plaintext allows TCP beyond this machine without TLS. heartbeat_timeout (seconds, 0
    for none) ends a session in which the reader is silent. on_error is called with each problem,
    on_undelivered with each message that is given up; both from the thread or task of the writer. Without
    on_error, problems are logged (logger "udsipc").
    """

    def __init__(self, address: str, *, acknowledged: bool = False, max_messages: int = 10_000,
                 max_bytes: int = 64 << 20, overflow: Union[Overflow, str] = Overflow.ERROR,
                 max_message_size: int = DEFAULT_LIMIT, tls: Optional[ssl.SSLContext] = None,
                 server_name: Optional[str] = None, plaintext: bool = False, dial_timeout: float = 1.0,
                 max_backoff: float = 10.0, heartbeat_timeout: float = 10.0, close_timeout: float = 5.0,
                 on_error: Optional[Callable[[Exception], object]] = None,
                 on_undelivered: Optional[Callable[[bytes], object]] = None) -> None:
        if max_messages < 1 or max_bytes < 11:
            raise ValueError(f"max_messages is {max_messages}, max_bytes {max_bytes}")
        if not 1 <= max_message_size <= MAX_LIMIT:
            raise ValueError(f"max_message_size is {max_message_size}, must be 1 to {MAX_LIMIT}")
        if min(dial_timeout, max_backoff) <= 0 or min(heartbeat_timeout, close_timeout) < 0:
            raise ValueError("dial_timeout and max_backoff must be positive, the other timeouts not negative")
        parsed = parse_address(address)
        check_encryption(parsed, tls, plaintext)
        check_name(parsed, tls, server_name)
        self._overflow = Overflow(overflow)
        self._close_timeout = close_timeout
        self._queue = SendQueue(max_messages, max_bytes, max_message_size)
        self._options = WriterOptions(parsed, acknowledged, tls, server_name, dial_timeout, max_backoff,
                                      heartbeat_timeout, on_error, on_undelivered)
        self._losses = LossCounter()
        self._lock = threading.RLock()
        self._settled = False  # What was left has been given up, and told.
        self._start()

    def _start(self) -> None:
        """Begin to run."""

    def metrics(self) -> WriterMetrics:
        """Return a copy of the metrics."""
        with self._lock:
            return self._queue.snapshot()

    def _new_engine(self, io: IO, notify: Callable[[], None]) -> WriterEngine:
        return WriterEngine(io, self._queue, self._options, self._lock, notify)

    def _check_end(self, engine: WriterEngine) -> None:
        """Give up what is left after the engine has ended, and raise NotDeliveredError for all losses, once."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
            left = self._queue.give_up_all()
        engine.return_undelivered()
        metrics = self.metrics()
        metrics.undelivered -= left
        self._losses.check(metrics, left)


class Writer(WriterBase):
    """Sends messages to a Reader from a bounded queue, over connections that it makes anew.

    The options are those of WriterBase. A Writer has a thread, which begins at once; all methods may be
    called from any thread. It does not survive os.fork: create it in the child.
    """

    def _start(self) -> None:
        self._changed = threading.Condition(self._lock)
        self._engine = self._new_engine(BlockingIO(), self._changed.notify_all)
        self._thread = threading.Thread(target=lambda: drive(self._engine.run()), daemon=True,
                                        name=f"udsipc writer {self._options.address.text}")
        self._thread.start()

    def write(self, data: Bytes, timeout: Optional[float] = None) -> None:
        """Queue a copy of a message. timeout limits the wait for space with Overflow.BLOCK.

        BufferFullError: the queue is full. MessageTooLargeError: the message can never be sent.
        StoppedError: the Writer was closed.
        """
        message = copy_of(data)
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._queue.check_size(len(message))
            while True:
                if self._engine.stopping or self._engine.done:
                    raise StoppedError("the Writer was closed")
                if self._queue.put(message, self._overflow):
                    break
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    self._queue.metrics.refused += 1
                    raise BufferFullError(f"the queue had no space for {timeout} s")
                self._changed.wait(left)
            self._engine.wake_if_sleeping()

    def flush(self, timeout: Optional[float] = None) -> None:
        """Wait until the messages that were queued before are delivered: acknowledged, or read by the peer.

        On a plain connection over TLS or on other systems than Linux, taken by the kernel is enough.
        NotDeliveredError says how many are left when the time limit passes, or were lost since the last flush.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            position = self._queue.metrics.accepted
            self._engine.begin_flush()
            try:
                while not self._engine.flushed(position):
                    rest = None if until is None else until - time.monotonic()
                    if rest is not None and rest <= 0:
                        break
                    self._changed.wait(rest)
            finally:
                self._engine.flushing -= 1
            self._losses.check(self._queue.metrics, self._queue.left_up_to(position))
            if not self._engine.flushed(position):
                raise NotDeliveredError(0, 0, 0, 0)

    def wait_connected(self, timeout: Optional[float] = None) -> None:
        """Wait until the Writer is connected, and welcomed if acknowledged. NotConnectedError has the cause."""
        with self._changed:
            self._engine.want_connection()
            self._changed.wait_for(lambda: self._engine.connected or self._engine.done, timeout)
            if not self._engine.connected:
                raise NotConnectedError(f"not connected: {self._engine.last_error}") from self._engine.last_error

    def close(self, timeout: Optional[float] = None) -> None:
        """Send what is queued within the time limit (close_timeout by default), then close.

        NotDeliveredError says how many messages were left, which on_undelivered has got, and which were
        lost since the last flush. A second call does nothing more, unless the first one was interrupted.
        """
        timeout = self._close_timeout if timeout is None else timeout
        with self._changed:
            self._engine.stop(time.monotonic() + timeout)
            self._changed.notify_all()
        if threading.current_thread() is self._thread:
            raise RuntimeError("close was called from a callback of the Writer")
        with self._changed:
            self._changed.wait_for(lambda: self._engine.done)
        self._check_end(self._engine)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        try:
            self.close()
        except NotDeliveredError:
            if error is None:
                raise
