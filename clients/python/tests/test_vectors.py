# SPDX-License-Identifier: Apache-2.0
"""The test vectors of docs/PROTOCOL.md."""

import json

import pytest
from conftest import ROOT

import udsipc.aio_writer
from udsipc import ProtocolError, wire
from udsipc.rpc import wire as rpc
from udsipc.rpc._core import ClientCore
from udsipc.rpc._pending import PendingCall, PendingStream
from udsipc.session import BackDecoder, Hello, Welcome, split_hello


def vectors(name):
    return json.loads((ROOT / "testdata" / name).read_text())


def unhex(text):
    parts = [part.partition("*") for part in text.split()]
    return b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in parts)


def decode(data, limit, step):
    """Return the messages and the end of a stream that comes in parts."""
    decoder = wire.FrameDecoder(limit)
    messages, oversized = [], False
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        try:
            while (message := decoder.next()) is not None:
                if isinstance(message, wire.TooLarge):
                    oversized = True
                else:
                    messages.append(message)
        except ProtocolError:
            return messages, "prefix"
    if oversized:
        return messages, "size"
    return messages, "incomplete" if decoder.incomplete else "whole"


FRAMES = vectors("frames.json")["vectors"]


@pytest.mark.parametrize("vector", FRAMES, ids=[v["name"] for v in FRAMES])
def test_frames(vector):
    data, want = unhex(vector["bytes"]), [unhex(m) for m in vector["messages"]]
    for step in (1, 2, 7, 1 << 20):
        assert decode(data, vector.get("limit", wire.DEFAULT_LIMIT), step) == (want, vector["end"])
    if vector["end"] == "whole" and "form" not in vector["name"] and "ten bytes" not in vector["name"]:
        assert b"".join(map(wire.encode_frame, want)) == data


GOODBYES = vectors("goodbye.json")


@pytest.mark.parametrize("vector", GOODBYES, ids=[v["what"] for v in GOODBYES])
def test_goodbyes(vector):
    data = unhex(vector["bytes"])
    for step in (1, len(data)):
        decoder = wire.EndDecoder()
        try:
            for at in range(0, len(data), step):
                decoder.feed(data[at : at + step])
        except ProtocolError:
            assert vector.get("foreign")
            continue
        assert not vector.get("foreign") and decoder.goodbye
        want = vector.get("report")
        assert decoder.report == (wire.Report(**want) if want else None)
        if want and want["reason"] < 99:
            assert b"\0" + wire.Report(**want).encode() == data


SESSIONS = vectors("session.json")


@pytest.mark.parametrize("vector", SESSIONS, ids=[v["what"] for v in SESSIONS])
def test_sessions(vector):
    data = unhex(vector["bytes"])
    if "hello" in vector:
        want = dict(vector["hello"])
        hello = Hello(bytes.fromhex(want["writer"]), want["epoch"], want["first"], want["sent"],
                      want["heartbeat_timeout_ms"])
        assert split_hello(data) == (hello, len(data))
        assert hello.encode() == data
        for size in range(len(data)):
            with pytest.raises(wire.IncompleteError):
                split_hello(data[:size])
    elif "welcome" in vector:
        want = vector["welcome"]
        welcome = Welcome(want["status"], want["handled"], want["limit"], want["heartbeat_timeout_ms"])
        body, end = wire.take_body(data)
        assert (Welcome.decode(body), end) == (welcome, len(data))
        assert welcome.encode() == data
    elif "back" in vector:
        decoder = BackDecoder()
        found = [item for b in data for item in decoder.feed(bytes((b,)))]
        assert [str(item) for item in found] == vector["back"]
    else:
        with pytest.raises(ProtocolError):
            invalid = {"hello": split_hello, "welcome": lambda d: Welcome.decode(wire.take_body(d)[0]),
                       "back": lambda d: BackDecoder().feed(d)}
            invalid[vector["invalid"]](data)


CALLS = vectors("rpc.json")


def about(kind, got):
    """Return the frame of a message about a call."""
    extra = {"cancel": b"", "credit": wire.encode_varint(got.get("bytes", 0)), "end": b"",
             "data": b"".join(wire.encode_frame(unhex(m)) for m in got.get("messages", ()))}
    return rpc.encode_about(getattr(rpc, kind.upper()), got["id"], extra[kind])


@pytest.mark.parametrize("vector", [v for v in CALLS if v["from"] == "client" and "invalid" not in v],
                         ids=lambda v: v["what"])
def test_rpc_encodes(vector):
    """What a client sends."""
    data = unhex(vector["bytes"])
    kind = next(k for k in vector if k not in ("what", "from", "bytes"))
    want = vector[kind]
    if kind in ("request", "open"):
        code = rpc.OPEN if kind == "open" else rpc.REQUEST
        method = rpc.encode_method(want["method"], want["metadata"])
        assert rpc.encode_request(code, want["id"], want["timeout_us"], method, unhex(want["data"])) == data
    elif kind == "notification":
        assert rpc.encode_notification(want["method"].encode(), unhex(want["data"])) == data
    else:
        assert about(kind, want) == data


class Calls(dict):
    """Calls in flight: all those that a message is about."""

    def __init__(self, seen):
        self.seen = seen

    def get(self, number):
        call = PendingStream("m", b"", None, udsipc.aio_writer.Signal())
        call.number = number
        self.seen.append((number, call))
        received = call.received

        def record(kind, data):
            self.seen[:] = [(number, kind, data, call)]
            if kind == rpc.RESPONSE:
                return PendingCall.received(call, kind, data)
            return received(kind, data)

        call.received = record
        return call

    def __delitem__(self, number):
        """The call has ended."""


@pytest.mark.parametrize("vector", [v for v in CALLS if v["from"] == "server"], ids=lambda v: v["what"])
def test_rpc_decodes(vector):
    """What a client receives."""
    core, seen = ClientCore(wire.DEFAULT_LIMIT, 1 << 20), []
    core.connect()
    core.calls = Calls(seen)
    data = unhex(vector["bytes"])
    if vector.get("invalid") and "incomplete" not in vector["what"]:
        with pytest.raises(ProtocolError):
            core.received(data)
        return
    if "goodbye" in vector:
        core.calls = {}
        core.received(data)
        assert [bytes(b) for b in core.to_send()] == [data]
        return
    for b in data:
        core.received(bytes((b,)))
    ((number, _, rest, call),) = seen
    if vector.get("invalid"):
        assert call.error.code == 1 and core.to_send()
    elif "response" in vector:
        assert {"id": number, "data": call.response.hex()} == vector["response"]
    elif "error" in vector:
        assert {"id": number, "code": call.error.code, "text": call.error.message} == vector["error"]
    elif "data" in vector:
        messages, cost = rpc.decode_messages(rest, rpc.WINDOW)
        assert {"id": number, "messages": [m.hex() for m in messages], "cost": cost} == vector["data"]
    else:
        assert call.remote_closed and {"id": number, "returned": call.finished} == vector["end"]


@pytest.mark.parametrize("n", [0, 1, 127, 128, 16383, 16384, 2**63 - 1, 2**64 - 1])
def test_varints(n):
    data = wire.encode_varint(n)
    assert wire.decode_varint(b"xx" + data + b"y", 2) == (n, 2 + len(data))
    for size in range(len(data)):
        with pytest.raises(wire.IncompleteError):
            wire.decode_varint(data[:size])
