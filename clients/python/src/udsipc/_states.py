# SPDX-License-Identifier: Apache-2.0
"""What a reader knows about its writers: epochs and handled messages. No input or output."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Callable, List, Optional, Protocol, Tuple

from .session import Hello

Key = Tuple[object, bytes]  # The identity of the peer, and the ID of the writer.


class Owner(Protocol):
    """The connection that holds a writer state."""

    def fence(self) -> None:
        """Handle no further message, and release the state."""


class WriterState:
    """The state of one writer."""

    def __init__(self) -> None:
        self.epoch = 0
        self.handled: Optional[int] = None  # None: no connection has been welcomed.
        self.owner: Optional[Owner] = None
        self.released_at = 0.0
        self.waiting: List[Callable[[], None]] = []  # Called after a release.


class Claim:
    """The wish of a connection for the state of its writer."""

    def __init__(self, state: WriterState, hello: Hello, owner: Owner, released: Callable[[], None]) -> None:
        self._released = released
        self._state = state
        self._hello = hello
        self._owner = owner
        self.base = 0  # The handled number of the welcome.
        self.duplicates = 0  # Messages that the writer still holds, and that need not be sent again.
        self.maybe_handled = 0  # Messages up to this number may have been handled by an earlier reader.

    @property
    def outdated(self) -> bool:
        """Whether a newer connection has claimed the state meanwhile."""
        return self._state.epoch != self._hello.epoch

    def acquire(self) -> bool:
        """Take the state if no other connection holds it."""
        state, hello = self._state, self._hello
        if state.owner is not None:
            return False
        state.owner = self._owner
        if state.handled is None:
            self.maybe_handled = hello.sent
        self.base = max(state.handled or 0, hello.first - 1)
        self.duplicates = self.base - (hello.first - 1)
        state.handled = self.base
        return True

    def release(self, handled: int) -> None:
        """Give the state back, with the number of the last handled message."""
        state = self._state
        if state.owner is self._owner:
            state.handled = max(state.handled or 0, handled)
            state.owner = None
            state.released_at = time.monotonic()
            self._released()
        waiting, state.waiting = state.waiting, []
        for wake in waiting:
            wake()


class WriterStates:
    """The states of all writers, within a number and a time after their connections have ended."""

    def __init__(self, max_states: int = 4096, retention: float = 3600.0) -> None:
        self.max_states = max_states
        self.retention = retention
        self._states: OrderedDict[Key, WriterState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def claim(self, key: Key, hello: Hello, owner: Owner, wake: Callable[[], None]) -> Optional[Claim]:
        """Begin to take a state over. It returns None if the epoch is not higher than that of the state.

        wake is called after the connection that holds the state has released it.
        """
        state = self._states.get(key)
        if state is None:
            self._evict()
            state = self._states[key] = WriterState()
        if hello.epoch <= state.epoch:
            return None
        self._states.move_to_end(key)
        state.epoch = hello.epoch
        waiting, state.waiting = state.waiting, [wake]
        for other in waiting:
            other()  # It finds itself outdated.
        if state.owner is not None:
            state.owner.fence()
        return Claim(state, hello, owner, lambda: self._move_to_end(key, state))

    def _move_to_end(self, key: Key, state: Optional[WriterState]) -> None:
        if self._states.get(key) is state:
            self._states.move_to_end(key)

    def _evict(self) -> None:
        now = time.monotonic()
        for key, state in list(self._states.items()):
            if state.owner is not None or state.waiting:
                continue
            if len(self._states) < self.max_states and now - state.released_at <= self.retention:
                return  # So are those that were released later.
            del self._states[key]
