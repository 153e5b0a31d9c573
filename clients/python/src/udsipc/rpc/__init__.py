# SPDX-License-Identifier: Apache-2.0
"""Calls of functions of another process: a client of package rpc of the Go library udsipc."""

from .aio import AsyncClient, AsyncStream
from .client import Client, Stream
from .errors import Code, RpcError

__all__ = ["AsyncClient", "AsyncStream", "Client", "Code", "RpcError", "Stream"]
