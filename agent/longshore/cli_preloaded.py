"""What tasks need, for the process from which theirs are forked: whoever imports this has it all.

All that takes time before a task begins is done here, once.
"""

from __future__ import annotations

import gc

import longshore.cli_flush
import longshore.cli_task
import longshore.cli_work
import longshore.core.codeship_file
import longshore.core.compose_file
import longshore.core.services
import longshore.engine.docker
import longshore.ops.exporter
import longshore.ops.importer
import longshore.ops.listing
import longshore.ops.showing
import longshore.store.directory
import longshore.store.s3
import longshore.store.s3_session
import longshore.wiring

longshore.store.s3_session.warm()
gc.collect()
gc.freeze()  # a task's collector need not look at it, nor copy it to do so
