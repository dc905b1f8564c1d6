"""The command `keygen`: make the keys that entries are signed with."""

from __future__ import annotations

import os

from longshore.cli_job import Job, Shown
from longshore.config import KEY_FILE
from longshore.output_json import plain
from longshore.signing_keys import make_keys


async def keygen(job: Job) -> Shown:
    """Make a pair of keys; the public one is the result."""
    made = make_keys(job.world.directory, job.settings.output or KEY_FILE, os.urandom)
    job.report.line(f"{made.private_key_file} is the private key: keep it secret, sign with it")
    job.report.line(f"{made.public_key_file} is the public key: give it to all who import")
    return Shown(made.public_key, plain(made))
