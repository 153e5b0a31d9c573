# SPDX-License-Identifier: Apache-2.0
"""The build backend of this package (PEP 517): it needs neither a network nor another package."""

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional

ROOT = Path(__file__).resolve().parent.parent
NAME = "udsipc"


def _field(name: str) -> str:
    found = re.search(rf'^{name} = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"pyproject.toml has no {name}")
    return found.group(1)


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {_field('version')}",
        f"Summary: {_field('description')}",
        f"Requires-Python: {_field('requires-python')}",
        "License: Apache-2.0",
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / "README.md").read_text(),
    ]
    return "\n".join(lines)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _write_wheel(directory: str, files: Dict[str, bytes]) -> str:
    version = _field("version")
    info = f"{NAME}-{version}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: udsipc\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{info}/RECORD"
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in files.items()] + [f"{record},,"]
    files[record] = ("\n".join(rows) + "\n").encode()
    name = f"{NAME}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(zipfile.ZipInfo(path), data)
    return name


def build_wheel(directory: str, settings: Optional[Dict[str, Any]] = None,
                metadata: Optional[str] = None) -> str:
    """Build the wheel."""
    sources = sorted(p for p in (ROOT / "src").rglob("*") if p.suffix == ".py" or p.name == "py.typed")
    return _write_wheel(directory, {p.relative_to(ROOT / "src").as_posix(): p.read_bytes() for p in sources})


def build_editable(directory: str, settings: Optional[Dict[str, Any]] = None,
                   metadata: Optional[str] = None) -> str:
    """Build a wheel that refers to this tree (PEP 660)."""
    return _write_wheel(directory, {f"{NAME}.pth": f"{ROOT / 'src'}\n".encode()})


def build_sdist(directory: str, settings: Optional[Dict[str, Any]] = None) -> str:
    """Build the source archive."""
    base = f"{NAME}-{_field('version')}"
    with tarfile.open(Path(directory) / f"{base}.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path in ("pyproject.toml", "README.md", "src", "build"):
            archive.add(ROOT / path, f"{base}/{path}", filter=_without_caches)
        info = tarfile.TarInfo(f"{base}/PKG-INFO")
        data = _metadata().encode()
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return f"{base}.tar.gz"


def _without_caches(entry: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
    return None if "__pycache__" in entry.name else entry
