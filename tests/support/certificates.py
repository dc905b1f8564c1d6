"""Certificates that nobody trusts, unless a test says so."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path, *more: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for `localhost`; returns the file of it, and its key's.

    Args:
        more: options of `openssl req`.
    """
    key, certificate = folder / "key", folder / "certificate"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", *more]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *options, *files], check=True, capture_output=True)
    return certificate, key
