# SPDX-License-Identifier: Apache-2.0
"""The Readers against writers that the tests write byte by byte."""

import asyncio
import os
import socket
import threading

import pytest
from conftest import PATIENCE, eventually
from scripted import Connection
from shells import READERS

import udsipc
from udsipc.session import GOODBYE, HEARTBEAT, Hello, Welcome
from udsipc.wire import Report, encode_frame, encode_varint

ID = bytes(range(16))
LIMIT = 10 << 20


@pytest.fixture(params=READERS)
def new_reader(request):
    made = []

    def make(address, handler, **options):
        options.setdefault("on_error", lambda error: None)
        reader = READERS[request.param](address, handler, **options)
        made.append(reader)
        reader.start()
        return reader

    yield make
    for reader in made:
        try:
            reader.close(0)
        except udsipc.StoppedError:
            pass


class Got(list):
    """A handler that keeps the deliveries."""

    def __call__(self, delivery):
        self.append(delivery)

    @property
    def data(self):
        return [d.data for d in self]


def open_session(path, first=1, sent=None, epoch=1, heartbeat_timeout=0, writer=ID):
    """Send a hello."""
    connection = Connection.connect(path)
    connection.send(Hello(writer, epoch, first, first - 1 if sent is None else sent, heartbeat_timeout).encode())
    return connection


def welcome(handled, heartbeat_timeout=10_000):
    return Welcome(0, handled, LIMIT, heartbeat_timeout).encode()


def waiting_handler(request, got, go):
    """A handler that keeps the deliveries, and waits."""

    def handler(delivery):
        got(delivery)
        assert go.wait(PATIENCE)

    async def handler_async(delivery):
        got(delivery)
        while not go.is_set():
            await asyncio.sleep(0.001)

    return handler_async if "asyncio" in request.node.name else handler


def test_plain(new_reader, path):
    got = Got()
    reader = new_reader(path, got)
    connection = Connection.connect(path)
    connection.send(b"\x05hello\x00\x85\x00again\x03cu")
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.rest() == GOODBYE + Report(0, 4, 0, LIMIT).encode()
    assert got.data == [b"hello", b"", b"again"]
    assert got[0].peer.credentials.uid == os.geteuid() and got[0].writer is None and [d.seq for d in got] == [1, 2, 3]
    assert eventually(lambda: reader.metrics().truncated == 1)


def test_plain_byte_by_byte(new_reader, path):
    got = Got()
    new_reader(path, got)
    connection = Connection.connect(path)
    for b in b"\x02ab\x00" + encode_frame(b"x" * 300):
        connection.send(bytes((b,)))
    eventually(lambda: len(got) == 3)
    assert got.data == [b"ab", b"", b"x" * 300]


def test_message_over_the_limit(new_reader, path):
    """It is skipped, the rest is handled, and the report tells it."""
    got = Got()
    reader = new_reader(path, got, max_message_size=4)
    connection = Connection.connect(path)
    connection.send(b"\x01a\x05hello\x01b")
    assert connection.rest() == GOODBYE + Report(3, 4, 1, 4).encode()
    assert got.data == [b"a", b"b"] and reader.metrics().too_large == 1


def test_malformed_length(new_reader, path):
    got = Got()
    reader = new_reader(path, got)
    connection = Connection.connect(path)
    connection.send(b"\x01a" + b"\xff" * 11)
    assert connection.rest() == GOODBYE + Report(4, 2, 0, LIMIT).encode()
    assert got.data == [b"a"] and eventually(lambda: reader.metrics().protocol_errors == 1)


def test_stop_is_graceful(new_reader, path, request):
    """What the kernel has accepted is handled; a later write fails."""
    got, go = Got(), threading.Event()
    reader = new_reader(path, waiting_handler(request, got, go))
    connection = Connection.connect(path)
    connection.send(b"\x011")
    eventually(lambda: got)
    connection.send(b"\x012\x013")
    closing = threading.Thread(target=reader.close)
    closing.start()
    go.set()
    assert connection.rest() == GOODBYE + Report(0, 4, 0, LIMIT).encode()
    closing.join()
    assert got.data == [b"1", b"2", b"3"]
    assert not os.path.exists(path)


def test_stop_serves_the_backlog(path):
    """A connection that was made before close is served."""
    got = Got()
    with udsipc.Reader(path, got, max_connections=1000):
        connections = [Connection.connect(path) for _ in range(50)]
        for connection in connections:
            connection.send(b"\x011")
    assert len(got) == 50
    for connection in connections:
        assert connection.rest() == GOODBYE + Report(0, 2, 0, LIMIT).encode()


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
    eventually(lambda: [s for s in reader.states._states.values() if s.epoch == 2])
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


def test_limits_of_time(new_reader, path):
    reader = new_reader(path, Got(), inactivity_timeout=0.05, first_message_timeout=0.05, message_timeout=0.05)
    idle = Connection.connect(path)
    assert idle.rest() == GOODBYE + Report(0, 1, 0, LIMIT).encode()
    slow = Connection.connect(path)
    slow.send(b"\x05he")
    assert slow.rest() == GOODBYE + Report(5, 1, 0, LIMIT).encode()
    later = Connection.connect(path)
    later.send(b"\x011\x05he")
    assert later.rest() == GOODBYE + Report(5, 2, 0, LIMIT).encode()
    m = reader.metrics()
    assert (m.idle_closed, m.too_slow) == (1, 2)


def test_silent_writer(new_reader, path):
    reader = new_reader(path, Got(), heartbeat_timeout=0.05)
    connection = open_session(path)
    connection.expect(welcome(0, 50))
    assert connection.rest() == b""
    assert eventually(lambda: reader.metrics().protocol_errors == 1)


def test_too_many_connections(new_reader, path):
    got = Got()
    reader = new_reader(path, got, max_connections=1)
    first = Connection.connect(path)
    first.send(b"\x011")
    eventually(lambda: len(got) == 1)
    second = Connection.connect(path)
    assert second.rest() == GOODBYE + Report(1, 1, 0, LIMIT).encode()
    third = Connection.connect(path)
    try:
        third.send(Hello(ID, 1, 1, 0).encode())
    except BrokenPipeError:
        pass  # The reader was quicker.
    assert third.rest() == GOODBYE + Report(1, 1, 0, LIMIT).encode()
    assert reader.metrics().refused == 2


def test_authorizer(new_reader, path):
    reader = new_reader(path, Got(), authorizer=lambda peer: peer.credentials.uid == os.geteuid() + 1)
    connection = Connection.connect(path)
    assert connection.rest() == GOODBYE + Report(2, 1, 0, LIMIT).encode()
    assert reader.metrics().unauthorized == 1
    assert udsipc.same_user()(udsipc.Peer(1, udsipc.Credentials(1, os.geteuid(), 1)))
    assert not udsipc.allow_uids()(udsipc.Peer(1, udsipc.Credentials(1, 0, 0)))


def test_forced_stop(path):
    """close does not wait for a handler that hangs."""
    entered, go = threading.Event(), threading.Event()

    def handler(delivery):
        entered.set()
        go.wait(PATIENCE)

    reader = udsipc.Reader(path, handler).start()
    connection = Connection.connect(path)
    connection.send(b"\x011\x012\x013")
    assert entered.wait(PATIENCE)
    with pytest.raises(udsipc.StoppedError):
        reader.close(0.01)
    go.set()
    connection.rest()
    assert eventually(lambda: reader.metrics().discarded == 2)


def test_tcp(new_reader):
    """Without a receiving side that can be closed, the goodbye comes first."""
    got = Got()
    reader = new_reader("tcp://127.0.0.1:0", got)
    sock = socket.create_connection(reader.address)
    connection = Connection(sock)
    connection.send(b"\x011")
    eventually(lambda: len(got) == 1)
    closing = threading.Thread(target=reader.close)
    closing.start()
    connection.expect(GOODBYE)
    connection.send(b"\x012")  # It was on its way.
    sock.shutdown(socket.SHUT_WR)
    assert connection.rest() == Report(0, 3, 0, LIMIT).encode()
    closing.join()
    assert got.data == [b"1", b"2"]


def test_states_are_bounded():
    from udsipc._states import WriterStates

    class Owner:
        def fence(self):
            pass

    states, owner = WriterStates(max_states=10), Owner()
    for n in range(100):
        claim = states.claim((0, encode_varint(n)), Hello(ID, 1, 1, 0), owner, lambda: None)
        assert claim.acquire()
        claim.release(3)
    assert len(states) == 10
