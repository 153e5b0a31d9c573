# SPDX-License-Identifier: Apache-2.0
"""Each example of README.md runs as it is, but for the folder of its sockets."""

import re
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT

import udsipc

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "clients/python/README.md").read_text(), re.DOTALL)


def run(block, folder):
    program = block.replace("/run/", f"{folder}/").replace('"@app"', f'"@{folder}"')
    return subprocess.Popen([sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, cwd=folder)


def output(block, folder):
    process = run(block, folder)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and err == "", err
    return out.splitlines()


@pytest.fixture(autouse=True)
def absolute_path(monkeypatch):
    import os
    monkeypatch.setenv("PYTHONPATH", os.path.abspath(os.environ["PYTHONPATH"]) if "PYTHONPATH" in os.environ else "")


def test_all_are_run():
    assert len(BLOCKS) == 7


def test_writer(folder):
    with udsipc.Reader(f"{folder}/app.sock", lambda d: None):
        assert output(BLOCKS[0], folder) == ["1"]


def test_time_limit(folder):
    process = run(BLOCKS[1], folder)
    out, log = process.communicate(timeout=PATIENCE)
    assert out == "1 [b'hello']\n" and "No such file or directory" in log


def test_reader(folder):
    process = run(BLOCKS[2], folder)
    with udsipc.Writer(f"{folder}/app.sock", acknowledged=True, on_error=lambda e: None) as writer:
        writer.write(b"hello")
        writer.flush(PATIENCE)
    process.send_signal(2)
    out, err = process.communicate(timeout=PATIENCE)
    assert out.startswith("b'hello' Credentials(pid=") and out.endswith(" 1 False\n")
    assert "KeyboardInterrupt" in err


def test_asyncio(folder):
    assert output(BLOCKS[3], folder) == ["b'hello'"]


def test_rpc(folder, peers):
    peers("rpc", f"{folder}/rpc.sock")
    lines = output(BLOCKS[4], folder)
    assert lines[:5] == ["b'hello'", "True", "b'0'", "b'1'", "b'2'"] and lines[5].endswith("3 is odd")
    assert output(BLOCKS[5], folder) == ["[b'0', b'1', b'2']", "b'ping'"]


def test_tls(folder, certificate):
    with open(certificate) as source, open(f"{folder}/identity.pem", "w") as copy:
        copy.write(source.read())
    assert output(BLOCKS[6], folder) == ["b'secret'"]
