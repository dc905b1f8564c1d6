"""What is left out when aiohttp is imported, and that nothing else trusts nobody by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.certificates import make_certificate

import longshore

SOURCE = str(Path(longshore.__file__).parents[1])
SCRIPT = """
import ssl
from longshore.store.s3_certificates import import_without_certificates

own = dict(vars(ssl.SSLContext))
import_without_certificates()

from aiohttp import connector
assert vars(ssl.SSLContext) == own
unused = connector._SSL_CONTEXT_VERIFIED
assert unused.verify_mode == ssl.CERT_REQUIRED and unused.check_hostname
print(unused.cert_store_stats()["x509"], ssl.create_default_context().cert_store_stats()["x509"])
"""


def test_aiohttp_is_imported_without_certificates_and_all_else_has_them(tmp_path: Path) -> None:
    bundle, _ = make_certificate(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": SOURCE, "SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["0", "1"]
