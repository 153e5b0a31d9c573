# SPDX-License-Identifier: Apache-2.0
"""The sessions of the Readers against writers that the tests write byte by byte."""

import socket
import threading

from conftest import eventually
from handlers import Got, waiting_handler
from scripted import Connection

from udsipc._states import WriterStates
from udsipc.session import GOODBYE, HEARTBEAT, Hello, Welcome
from udsipc.wire import encode_varint

ID = bytes(range(16))
LIMIT = 10 << 20


def open_session(path, first=1, sent=None, epoch=1, heartbeat_timeout=0, writer=ID):
    """Send a hello."""
    connection = Connection.connect(path)
    connection.send(Hello(writer, epoch, first, first - 1 if sent is None else sent, heartbeat_timeout).encode())
    return connection


def welcome(handled, heartbeat_timeout=10_000):
    return Welcome(0, handled, LIMIT, heartbeat_timeout).encode()


def test_session(new_reader, path):
    got = Got()
    reader = new_reader(path, got)
    connection = open_session(path)
    connection.expect(welcome(0))
    connection.send(b"\x011" + HEARTBEAT + b"\x00\x012")
    connection.expect(b"\x03")
    assert got.data == [b"1", b"", b"2"]
    assert [(d.writer, d.seq, d.redelivered) for d in got] == [(ID, n, False) for n in (1, 2, 3)]
    connection.close()
    connection = open_session(path, first=2, sent=5, epoch=2)
    connection.expect(welcome(3))  # Two messages need not be sent again.
    connection.send(b"\x014")
    connection.expect(b"\x04")
    assert got[-1].seq == 4 and not got[-1].redelivered
    assert reader.metrics().duplicates_suppressed == 2
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.rest() == GOODBYE


def test_session_of_an_unknown_writer(new_reader, path):
    """Messages that an earlier reader may have handled are marked."""
    got = Got()
    new_reader(path, got)
    connection = open_session(path, first=10, sent=11, epoch=7)
    connection.expect(welcome(9))
    connection.send(b"\x01a\x01b\x01c")
    connection.expect(b"\x0c")
    assert [(d.seq, d.redelivered) for d in got] == [(10, True), (11, True), (12, False)]


def test_many_acknowledgements(new_reader, path):
    """They are cumulative, and come at least after every 2,048 messages."""
    got = Got()
    new_reader(path, got)
    connection = open_session(path)
    connection.expect(welcome(0))
    connection.send(b"\x01x" * 5000)
    acknowledged = connection.back(lambda items: items and items[-1] == 5000)
    assert acknowledged == sorted(set(acknowledged))
    assert all(b - a <= 2048 for a, b in zip([0] + acknowledged, acknowledged))


def test_acknowledgement_while_a_handler_is_slow(new_reader, path, request):
    """The one before is acknowledged, and heartbeats are sent."""
    go = threading.Event()
    wait = waiting_handler(request, Got(), go)
    new_reader(path, lambda delivery: wait(delivery) if delivery.data == b"slow" else None)
    connection = open_session(path, heartbeat_timeout=80)
    connection.expect(welcome(0))
    connection.send(b"\x04fast\x04slow")
    items = connection.back(lambda items: 1 in items and items.count("heartbeat") > 1)
    assert 2 not in items
    go.set()
    connection.back(lambda items: 2 in items)


def test_version_refusal(new_reader, path):
    reader = new_reader(path, Got())
    connection = Connection.connect(path)
    connection.send(Hello(ID, 1, 1, 0, 0, version=2).encode())
    assert connection.rest() == Welcome(1).encode()
    assert eventually(lambda: reader.metrics().protocol_errors == 1)


def test_malformed_hello(new_reader, path):
    new_reader(path, Got())
    connection = open_session(path, epoch=0)
    assert connection.rest() == b""


def test_old_epoch(new_reader, path):
    new_reader(path, Got())
    first = open_session(path, epoch=5)
    first.expect(welcome(0))
    for epoch in (4, 5):
        assert open_session(path, epoch=epoch).rest() == Welcome(2).encode()
    first.send(b"\x011")
    first.expect(b"\x01")


def test_fencing(new_reader, path, request):
    """A higher epoch waits for the running handler, and goes on after its message."""
    got, go = Got(), threading.Event()
    reader = new_reader(path, waiting_handler(request, got, go))
    old = open_session(path)
    old.expect(welcome(0))
    old.send(b"\x011\x012\x013")
    eventually(lambda: got)
    new = open_session(path, sent=3, epoch=2)
    eventually(lambda: [c for c in list(reader._engine._open.values()) if c._fenced])
    go.set()
    new.expect(welcome(1))
    assert old.rest() in (b"", b"\x01")
    new.send(b"\x012")
    new.expect(b"\x02")
    assert got.data == [b"1", b"2"]


def test_fencing_while_one_waits(new_reader, path, request):
    """Of several that wait, the highest epoch gets the session."""
    got, go = Got(), threading.Event()
    reader = new_reader(path, waiting_handler(request, got, go))
    old = open_session(path)
    old.expect(welcome(0))
    old.send(b"\x011")
    eventually(lambda: got)
    second = open_session(path, sent=1, epoch=2)
    eventually(lambda: [s for s in reader.states._states.values() if s.epoch == 2])
    third = open_session(path, sent=1, epoch=3, heartbeat_timeout=40)
    assert second.rest() == Welcome(2).encode()
    third.expect(HEARTBEAT * 2)
    go.set()
    while third.socket.recv(1) != welcome(1)[:1]:
        pass
    third.expect(welcome(1)[1:])


def test_redelivery_and_dead_letter(new_reader, path):
    tries, dead = [], []

    def handler(delivery):
        tries.append((delivery.data, delivery.redelivered))
        if delivery.data == b"bad" or delivery.data == b"once" and len(tries) == 1:
            raise ValueError("on purpose")

    reader = new_reader(path, handler, dead_letter=lambda d, e: dead.append((d.data, str(e))))
    connection = open_session(path)
    connection.expect(welcome(0))
    connection.send(b"\x04once\x03bad\x02ok")
    connection.back(lambda items: 3 in items)
    assert tries == [(b"once", False), (b"once", True), (b"bad", False)] + [(b"bad", True)] * 3 + [(b"ok", False)]
    assert dead == [(b"bad", "on purpose")]
    m = reader.metrics()
    assert (m.received, m.redelivered, m.handler_errors, m.dead_letters) == (3, 4, 2, 1)


def test_silent_writer(new_reader, path):
    reader = new_reader(path, Got(), heartbeat_timeout=0.05)
    connection = open_session(path)
    connection.expect(welcome(0, 50))
    assert connection.rest() == b""
    assert eventually(lambda: reader.metrics().protocol_errors == 1)


def test_states_are_bounded():
    class Owner:
        def fence(self):
            pass

    states, owner = WriterStates(max_states=10), Owner()
    for n in range(100):
        claim = states.claim((0, encode_varint(n)), Hello(ID, 1, 1, 0), owner, lambda: None)
        assert claim.acquire()
        claim.release(3)
    assert len(states) == 10
    held = [states.claim((0, encode_varint(n)), Hello(ID, 2, 1, 0), owner, lambda: None) for n in range(200, 212)]
    assert all(claim.acquire() for claim in held)
    assert len(states) == 12  # Those of open connections are kept.
