# SPDX-License-Identifier: Apache-2.0
"""The sessions of the Writers against readers that the tests write byte by byte."""

import pytest
from conftest import eventually
from scripted import Listener

import udsipc
from udsipc.session import GOODBYE, HEARTBEAT, Welcome
from udsipc.wire import Report

LIMIT = 1 << 20


def session(listener, handled=None, limit=LIMIT, heartbeat_timeout=0):
    """Accept a session."""
    connection = listener.accept()
    hello = connection.hello()
    handled = hello.first - 1 if handled is None else handled
    connection.send(Welcome(0, handled, limit, heartbeat_timeout).encode())
    return connection, hello


def test_session(new_writer, path):
    listener, writer = Listener(path), new_writer(path, acknowledged=True, heartbeat_timeout=7)
    for message in (b"1", b"2", b"3"):
        writer.write(message)
    connection, hello = session(listener)
    assert (hello.epoch, hello.first, hello.sent, hello.heartbeat_timeout) == (1, 1, 0, 7000)
    connection.expect(b"\x011\x012\x013")
    connection.send(HEARTBEAT + b"\x02")
    eventually(lambda: writer.metrics().acknowledged == 2)
    connection.close()
    connection, again = session(listener)
    assert (again.writer, again.epoch, again.first, again.sent) == (hello.writer, 2, 3, 3)
    connection.expect(b"\x013")
    connection.send(b"\x03")
    writer.flush()
    assert writer.metrics().redelivered == 1
    connection.send(GOODBYE)
    assert connection.rest() == b""
    connection.close()


def test_session_resumes(new_writer, path):
    """A welcome acknowledges, too."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    for message in (b"1", b"2", b"3"):
        writer.write(message)
    connection, _ = session(listener)
    connection.expect(b"\x011\x012\x013")
    connection.close()
    connection, hello = session(listener, handled=2)
    assert (hello.first, hello.sent) == (1, 3)
    connection.expect(b"\x013")
    assert writer.metrics().acknowledged == 2


def test_session_goodbye(new_writer, path):
    """After the goodbye nothing is sent on the connection, and the last acknowledgement counts."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    connection, _ = session(listener)
    writer.write(b"1")
    connection.expect(b"\x011")
    connection.send(GOODBYE)
    assert connection.rest() == b""  # The writer has closed its sending side.
    writer.write(b"2")
    connection.send(b"\x01")
    connection.close()
    connection, hello = session(listener)
    assert hello.first == 2
    connection.expect(b"\x012")


@pytest.mark.parametrize("bytes_", [b"\x03", b"\x01\x01", b"\x81\x00", b"\x80\x80\x00"])
def test_invalid_acknowledgements(new_writer, path, bytes_):
    """They are ignored, and end the connection."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    writer.write(b"2")
    connection, _ = session(listener)
    connection.expect(b"\x011\x012")
    connection.send(bytes_)
    assert connection.rest() == b""
    eventually(lambda: any(isinstance(e, udsipc.ProtocolError) for e in errors))
    connection, hello = session(listener)
    assert hello.first == (2 if bytes_.startswith(b"\x01") else 1)


@pytest.mark.parametrize("reply, error", [
    (Welcome(1, version=2).encode(), udsipc.VersionError),
    (Welcome(2).encode(), udsipc.FencedError),
    (GOODBYE + Report(4, 1, 0, LIMIT).encode(), udsipc.SessionsUnsupportedError),
    (GOODBYE + Report(2, 1, 0, LIMIT).encode(), udsipc.RejectedError),
    (b"HTTP/1.1 400 Bad Request" * 9, udsipc.ProtocolError),
    (b"\x05\x01\x00\x00\x00\x00", udsipc.ProtocolError),
])
def test_refusal(new_writer, path, reply, error):
    """A reader that refuses the session costs no message."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    connection = listener.accept()
    connection.hello()
    connection.send(HEARTBEAT + reply)
    connection.close()
    assert eventually(lambda: [e for e in errors if isinstance(e, error)])
    connection, hello = session(listener)
    connection.expect(b"\x011")
    connection.send(b"\x01")
    writer.flush()


def test_reader_without_sessions(new_writer, path):
    """Two connections that end without an answer."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    for _ in range(2):
        connection = listener.accept()
        connection.hello()
        connection.close()
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.SessionsUnsupportedError)])


def test_limit_of_the_welcome(new_writer, path):
    undelivered = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_undelivered=undelivered.append)
    for message in (b"small", b"larger than the limit", b"last"):
        writer.write(message)
    connection, _ = session(listener, limit=5)
    connection.expect(b"\x05small\x04last")
    connection.send(b"\x02")
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.flush()
    assert e.value.undelivered == 1
    assert undelivered == [b"larger than the limit"]
    with pytest.raises(udsipc.MessageTooLargeError):
        writer.write(b"larger")


def test_limit_that_shrinks(new_writer, path):
    """A message that was sent keeps its number when it is given up: the next hello begins above it."""
    undelivered = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_undelivered=undelivered.append)
    for message in (b"1", b"larger", b"3"):
        writer.write(message)
    connection, _ = session(listener)
    connection.expect(b"\x011\x06larger\x013")
    connection.close()
    connection, _ = session(listener, limit=5)
    connection.expect(b"\x011")
    connection.send(b"\x01")
    assert connection.rest() == b""
    connection.close()
    connection, hello = session(listener, limit=5)
    assert (hello.first, hello.sent) == (3, 3)
    connection.expect(b"\x013")
    assert undelivered == [b"larger"]


def test_heartbeats(new_writer, path):
    listener, writer = Listener(path), new_writer(path, acknowledged=True, heartbeat_timeout=0)
    connection, _ = session(listener, heartbeat_timeout=40)
    connection.expect(HEARTBEAT * 3)
    writer.write(b"1")
    while connection.data[:2] != b"\x011":
        connection.expect(HEARTBEAT) if connection.data[:2] == HEARTBEAT else None
        connection.data += connection.socket.recv(100) if len(connection.data) < 2 else b""


def test_silent_reader(new_writer, path):
    errors = []
    listener = Listener(path)
    new_writer(path, acknowledged=True, heartbeat_timeout=0.05, on_error=errors.append)
    connection, _ = session(listener)
    assert connection.rest() == b""
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.HeartbeatTimeoutError)])


def test_reader_that_knows_too_much(new_writer, path):
    """The writer goes on with a new ID."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    writer.write(b"1")
    connection, first = session(listener, handled=99)
    assert connection.rest() == b""
    connection.close()
    connection, second = session(listener)
    assert second.writer != first.writer and second.epoch == 1
    connection.expect(b"\x011")
