"""What tasks need, for the process from which theirs are forked: whoever imports this has it all.

All that takes time before a task begins is done here, once.
"""

from __future__ import annotations

import ctypes  # noqa: F401 - the allocator is bounded through it
import gc

import longshore.build_contexts
import longshore.cli_flush
import longshore.cli_task
import longshore.cli_work
import longshore.core.build_command
import longshore.core.ci
import longshore.core.ci_build
import longshore.core.ci_github
import longshore.core.codeship_file
import longshore.core.compose_file
import longshore.core.dotenv
import longshore.core.scopes
import longshore.core.services
import longshore.docker_command
import longshore.engine.docker
import longshore.ops.exporter
import longshore.ops.importer
import longshore.ops.listing
import longshore.ops.showing
import longshore.signing_keys
import longshore.store.directory
import longshore.store.limit
import longshore.store.metrics
import longshore.store.retry
import longshore.store.s3
import longshore.store.s3_certificates
import longshore.store.s3_session
import longshore.wiring

longshore.store.s3_session.warm()
gc.collect()
gc.freeze()  # a task's collector need not look at it, nor copy it to do so
