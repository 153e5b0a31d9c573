# SPDX-License-Identifier: Apache-2.0
"""The error of a call, and its codes."""

from __future__ import annotations

import enum
from typing import Union

from ..errors import Error


class Code(enum.IntEnum):
    """Why a call has failed. From FIRST_USER on, the two programs define the meaning."""

    UNKNOWN = 1
    INVALID_ARGUMENT = 2
    NOT_FOUND = 3
    ALREADY_EXISTS = 4
    PERMISSION_DENIED = 5
    FAILED_PRECONDITION = 6
    UNAVAILABLE = 7
    UNAUTHENTICATED = 8
    CANCELED = 9
    DEADLINE_EXCEEDED = 10
    UNKNOWN_METHOD = 11
    PANIC = 12
    TOO_LARGE = 13
    RESOURCE_EXHAUSTED = 14
    CONNECTION_LOST = 15
    STOPPED = 16
    FIRST_USER = 1000


class RpcError(Error):
    """A call or a stream has failed. code is a Code, or a number that the programs define."""

    def __init__(self, code: Union[Code, int], message: str) -> None:
        try:
            code = Code(code)
        except ValueError:
            pass
        name = code.name.lower().replace("_", " ") if isinstance(code, Code) else f"code {code}"
        super().__init__(f"{name}: {message}")
        self.code = code
        self.message = message

    def anew(self) -> RpcError:
        """Return an equal error to raise: one that is raised again and again would collect tracebacks."""
        return RpcError(self.code, self.message)
