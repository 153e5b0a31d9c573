# SPDX-License-Identifier: Apache-2.0
"""Socket files, their folders, and sockets that systemd passes."""

import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest
from conftest import PATIENCE, eventually
from scripted import Connection

import udsipc
from udsipc._listen import lock_name


def ignore(delivery):
    """Handle nothing."""


def test_mode(path):
    old = os.umask(0o077)
    try:
        with udsipc.Reader(path, ignore, mode=0o622):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o622
        with udsipc.Reader(path, ignore):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        os.umask(old)
    assert os.listdir(os.path.dirname(path)) == []


def test_stale_socket(path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with udsipc.Reader(path, ignore):
        Connection.connect(path).close()


def test_socket_in_use(path, peers):
    with udsipc.Reader(path, ignore):
        with pytest.raises(udsipc.SocketInUseError):
            udsipc.Reader(path, ignore).start()
        Connection.connect(path).close()
    peers("read", path)
    with pytest.raises(udsipc.SocketInUseError):
        udsipc.Reader(path, ignore).start()
    Connection.connect(path).close()


@pytest.mark.parametrize("make", [lambda p: open(p, "w").close(), os.mkdir, os.mkfifo, lambda p: os.symlink("x", p)])
def test_other_files_stay(path, make):
    make(path)
    before = os.lstat(path)
    with pytest.raises(udsipc.InvalidAddressError, match="no socket"):
        udsipc.Reader(path, ignore).start()
    assert os.path.samestat(before, os.lstat(path))


def test_another_socket_stays_at_close(path):
    """A Reader removes its own file only."""
    reader = udsipc.Reader(path, ignore).start()
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        reader.close()
        assert os.path.exists(path)


def test_folder_is_made(folder):
    with udsipc.Reader(f"{folder}/new/socket", ignore):
        assert stat.S_IMODE(os.stat(f"{folder}/new").st_mode) == 0o750


def test_unsafe_folders(folder):
    os.mkdir(f"{folder}/open")
    os.chmod(f"{folder}/open", 0o777)
    with pytest.raises(udsipc.InvalidAddressError, match="chmod go-w"):
        udsipc.Reader(f"{folder}/open/s", ignore).start()
    os.chmod(f"{folder}/open", 0o1777)
    with udsipc.Reader(f"{folder}/open/s", ignore):
        pass
    os.symlink(f"{folder}/open", f"{folder}/link")
    with udsipc.Reader(f"{folder}/link/s", ignore):
        pass
    if os.geteuid() == 0:
        os.chown(f"{folder}/link", 12345, 12345, follow_symlinks=False)
        with pytest.raises(udsipc.InvalidAddressError, match="symbolic link"):
            udsipc.Reader(f"{folder}/link/s", ignore).start()
        os.chown(f"{folder}/open", 12345, 12345)
        with pytest.raises(udsipc.InvalidAddressError, match="belongs to user 12345"):
            udsipc.Reader(f"{folder}/open/s", ignore).start()


def test_lock(folder, peers):
    """Readers that start at once lock each other out, also those of the Go library."""
    with lock_name(folder, "s"):
        assert stat.S_IMODE(os.stat(f"{folder}/.s.lock").st_mode) == 0o600
        with pytest.raises(udsipc.SocketInUseError):
            udsipc.Reader(f"{folder}/s", ignore).start()
        peer = peers("read", f"{folder}/s", ready=False)
        assert peer.process.wait(PATIENCE) == 1
    assert os.listdir(folder) == []
    with open(f"{folder}/.s.lock", "w"):  # Others may open it: it is no lock.
        os.chmod(f"{folder}/.s.lock", 0o644)
    with udsipc.Reader(f"{folder}/s", ignore):
        pass


PASSED = """
import os, sys, udsipc
got = []
reader = udsipc.Reader("/not/used", lambda d: got.append(d.data), systemd_name=sys.argv[1] or None).start()
print("ready", "LISTEN_FDS" in os.environ, os.get_inheritable(3), flush=True)
sys.stdin.read()
reader.close()
print(got)
"""


@pytest.mark.parametrize("name", ["", "collector"])
def test_passed_socket(path, peers, name):
    """The Reader uses it, and leaves its file to systemd."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("no systemd-socket-activate")
    environment = f"--setenv=PYTHONPATH={os.environ.get('PYTHONPATH', '')}"
    reader = peers("--listen", path, "--fdname=collector", environment, sys.executable, "-c", PASSED, name,
                   program=["systemd-socket-activate"], ready=False)
    eventually(lambda: os.path.exists(path))
    with udsipc.Writer(path, acknowledged=True) as writer:
        writer.write(b"m")
        writer.flush(PATIENCE)
    assert reader.stop() == ["ready False False", "[b'm']"]
    assert os.path.exists(path)


def test_passed_to_another_process():
    """LISTEN_PID is of another process: the variables mean nothing here."""
    program = "import udsipc._listen as l; print(l.passed_sockets())"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"},
                          capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_name_that_systemd_has_not_passed(path):
    with pytest.raises(udsipc.InvalidAddressError, match="systemd"):
        udsipc.Reader(path, ignore, systemd_name="other").start()
