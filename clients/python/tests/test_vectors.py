# SPDX-License-Identifier: Apache-2.0
"""The test vectors of docs/PROTOCOL.md."""

import json

import pytest
from conftest import ROOT

from udsipc import ProtocolError, wire
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


@pytest.mark.parametrize("n", [0, 1, 127, 128, 16383, 16384, 2**63 - 1, 2**64 - 1])
def test_varints(n):
    data = wire.encode_varint(n)
    assert wire.decode_varint(b"xx" + data + b"y", 2) == (n, 2 + len(data))
    for size in range(len(data)):
        with pytest.raises(wire.IncompleteError):
            wire.decode_varint(data[:size])
