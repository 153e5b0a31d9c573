# SPDX-License-Identifier: Apache-2.0
"""Writers and Readers against those of the Go library: kills, cuts, limits, TLS."""

import itertools
import sys

import pytest
from conftest import PATIENCE, eventually
from scripted import Proxy
from shells import READERS, WRITERS, flood

import udsipc

BOTH = ["blocking", "asyncio"]


def quiet(error):
    """Problems are expected."""


def parse(lines):
    """Return what a Go Reader has printed: number, whether it is redelivered, data."""
    rows = [line.split(" ", 2) for line in lines if not line.startswith("end")]
    return [(int(seq), redelivered == "true", data.strip()) for seq, redelivered, data in rows]


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_python_to_go(peers, path, kind, acknowledged):
    reader = peers("read", path)
    writer = WRITERS[kind](path, acknowledged=acknowledged, overflow="block", max_messages=1000)
    flood(writer, 5000).join()
    writer.flush(PATIENCE)
    writer.close()
    got = parse(reader.stop())
    assert [data for _, _, data in got] == [str(i) for i in range(5000)]
    assert [seq for seq, _, _ in got] == list(range(1, 5001))
    m = writer.metrics()
    assert (m.sent, m.acknowledged, m.possibly_lost) == (5000, 5000 if acknowledged else 0, 0)


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_go_to_python(peers, path, kind, acknowledged):
    got = []
    with READERS[kind](path, lambda d: got.append((d.seq, int(d.data))), on_error=quiet):
        flags = ["-acks"] if acknowledged else []
        writer = peers("write", *flags, "-count", 5000, path)
        assert writer.line() == "flushed <nil>"
        assert writer.line() == f"end 5000 {5000 if acknowledged else 0} 0 <nil>"
    assert got == [(i, i) for i in range(1, 5001)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "@udsipc-python-live"])
def test_other_transports(peers, address):
    reader = peers("read", address)
    real = f"tcp://{reader.address}" if address.startswith("tcp") else address
    for acknowledged in (False, True):
        with udsipc.Writer(real, acknowledged=acknowledged) as writer:
            writer.write(b"over another transport")
            writer.flush(PATIENCE)
    assert [row[2] for row in parse(reader.stop())] == ["over another transport"] * 2


@pytest.mark.parametrize("kind", BOTH)
def test_killed_go_reader(peers, path, kind):
    """No message is lost: those that come again are marked."""
    writer = WRITERS[kind](path, acknowledged=True, overflow="block", max_messages=500, on_error=quiet,
                           max_backoff=0.05)
    total = 10_000
    thread = flood(writer, total)
    got = []
    for n in (1, 2, 3):
        reader = peers("read", "-die", 1000 * n, path)
        got += parse(reader.rest())
        assert len(got) >= 1000 * n and reader.process.wait() == -9
    reader = peers("read", path)
    thread.join()
    writer.close(PATIENCE)
    got += parse(reader.stop())
    fresh = [(seq, data) for seq, redelivered, data in got if not redelivered]
    assert {data for _, _, data in got} == {str(i) for i in range(total)}
    assert len(set(fresh)) == len(fresh)
    assert all(int(data) == seq - 1 for seq, _, data in got)
    assert writer.metrics().acknowledged == total


CHILD = """
import os, sys, udsipc
count = int(sys.argv[2])
def handle(d):
    global count
    sys.stdout.write(f"{d.seq} {str(d.redelivered).lower()} {int(d.data)}\\n")
    sys.stdout.flush()
    count -= 1
    if count == 0:
        os.kill(os.getpid(), 9)
reader = udsipc.Reader(sys.argv[1], handle, on_error=lambda e: None).start()
sys.stdin.read()
reader.close()
"""


def test_killed_python_reader(peers, path):
    writer = peers("write", "-acks", "-count", 6000, path)
    got = []
    for n in (1, 2):
        reader = peers(path, 1000 * n, program=[sys.executable, "-c", CHILD], ready=False)
        got += parse(reader.rest())
        assert reader.process.wait() == -9
    reader = peers(path, 0, program=[sys.executable, "-c", CHILD], ready=False)
    assert writer.line() == "flushed <nil>" and writer.line() == "end 6000 6000 0 <nil>"
    got += parse(reader.stop())
    fresh = [seq for seq, redelivered, _ in got if not redelivered]
    assert {int(data) for _, _, data in got} == set(range(1, 6001)) and len(set(fresh)) == len(fresh)


WRITER_CHILD = """
import sys, udsipc
writer = udsipc.Writer(sys.argv[1], acknowledged=True, overflow="block", max_messages=100)
for i in range(10**9):
    writer.write(b"%d" % i)
    if i % 500 == 0:
        print(i, flush=True)
"""


def test_killed_python_writer(peers, path):
    """Messages arrive whole, in order, without holes."""
    reader = peers("read", path)
    writer = peers(path, program=[sys.executable, "-c", WRITER_CHILD], ready=False)
    for _ in range(4):
        writer.line()
    writer.kill()
    got = parse(reader.stop())
    assert len(got) > 1000 and [int(data) for _, _, data in got] == list(range(len(got)))


def offsets(peers, path):
    """Return the length of a session in both directions, for the messages of the cuts."""
    up = len(udsipc.session.Hello(bytes(16), 1, 1, 0, 10_000).encode()) + 3 * 3
    return [("up", n) for n in range(1, up + 1)] + [("down", n) for n in range(1, 16)]


@pytest.mark.parametrize("kind", BOTH)
def test_cuts_to_go(peers, folder, kind):
    """A session that is cut at any byte, in either direction: each message is handled once, in order."""
    reader = peers("read", f"{folder}/reader")
    proxy = Proxy(f"{folder}/proxy", f"{folder}/reader")
    cuts = offsets(peers, folder)
    for cut in cuts:
        proxy.cut(*cut)
        writer = WRITERS[kind](f"{folder}/proxy", acknowledged=True, on_error=quiet, max_backoff=0.02)
        for i in range(3):
            writer.write(b"m%d" % i)
        writer.flush(PATIENCE)
        proxy.cuts.clear()
        writer.close()
    proxy.close()
    assert proxy.was_cut > len(cuts) - 8
    got = parse(reader.stop())
    assert got == [(seq, False, f"m{seq - 1}") for seq in (1, 2, 3)] * len(cuts)


@pytest.mark.parametrize("kind", BOTH)
def test_cuts_from_go(peers, folder, kind):
    """The same with the Go Writer, and the Python Reader."""
    got = []
    proxy = Proxy(f"{folder}/proxy", f"{folder}/reader")
    with READERS[kind](f"{folder}/reader", lambda d: got.append((d.seq, d.redelivered)), on_error=quiet):
        cuts = offsets(peers, folder)[::2 if kind == "blocking" else 5]
        for cut in cuts:
            proxy.cut(*cut)
            writer = peers("write", "-acks", "-count", 3, f"{folder}/proxy")
            assert writer.line() == "flushed <nil>" and writer.line() == "end 3 3 0 <nil>"
            proxy.cuts.clear()
    proxy.close()
    assert got == [(seq, False) for seq in (1, 2, 3)] * len(cuts)


@pytest.mark.parametrize("kind", BOTH)
def test_message_over_the_limit_of_go(peers, path, kind):
    """In plain mode the Go Reader tells how many messages it has not handled."""
    reader = peers("read", "-limit", 100, path)
    writer = WRITERS[kind](path, on_error=quiet)
    writer.write(b"x" * 101)
    writer.write(b"after")
    with pytest.raises(udsipc.NotDeliveredError) as e:
        eventually(lambda: writer.metrics().disconnects)
        writer.close()
    assert e.value.possibly_lost + e.value.undelivered == 1
    assert [row[2] for row in parse(reader.stop())] == ["after"]


def test_handler_that_fails(peers, path):
    """The Go Reader redelivers: the Python Writer sends nothing twice."""
    reader = peers("read", "-fail", 2, path)
    with udsipc.Writer(path, acknowledged=True) as writer:
        writer.write(b"m")
        writer.flush(PATIENCE)
    assert [(r, d) for _, r, d in parse(reader.stop())] == [(False, "m"), (True, "m"), (True, "m")]


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_stop_of_go(peers, path, kind, acknowledged):
    """A Go Reader that stops under load loses nothing, and the next one goes on."""
    writer = WRITERS[kind](path, acknowledged=acknowledged, overflow="block", max_messages=100, on_error=quiet,
                           max_backoff=0.05)
    thread = flood(writer, 5000)
    got = []
    for n in (1, 2):
        reader = peers("read", path)
        while len(got) < 1000 * n:
            got += parse([reader.line()])
        got += parse(reader.stop())
    reader = peers("read", path)
    thread.join()
    writer.close(PATIENCE)
    got += parse(reader.stop())
    assert [int(data) for _, _, data in got] == list(range(5000))
    assert writer.metrics().possibly_lost == 0


def test_server_of_rpc_is_no_reader(peers, path):
    """It tells that, and the writer keeps the message."""
    peers("rpc", path)
    errors = []
    writer = udsipc.Writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"m")
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.RejectedError) and e.reason == 7])
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.close(0)
    assert e.value.left == 1


@pytest.mark.parametrize("writers, readers", itertools.product(BOTH, BOTH))
@pytest.mark.parametrize("acknowledged", [False, True])
def test_python_to_python(path, writers, readers, acknowledged):
    """Readers come and go under load."""
    got, states = [], udsipc.WriterStates()
    writer = WRITERS[writers](path, acknowledged=acknowledged, overflow="block", max_messages=100, max_backoff=0.05,
                              on_error=quiet)
    thread = flood(writer, 5000)
    for n in range(1, 4):
        reader = READERS[readers](path, lambda d: got.append((int(d.data), d.redelivered)), states=states,
                                  on_error=quiet)
        reader.start()
        eventually(lambda n=n: len(got) > 1000 * n)
        reader.close(PATIENCE)
    with READERS[readers](path, lambda d: got.append((int(d.data), d.redelivered)), states=states, on_error=quiet):
        thread.join()
        writer.close(PATIENCE)
    assert got == [(i, False) for i in range(5000)]
    assert writer.metrics().possibly_lost == 0
