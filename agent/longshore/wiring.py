"""The composition root: which parts a run is made of, and in which order they are stacked.

Clients are heavy, so each function imports what it makes.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from longshore import __version__, config
from longshore.config import Settings
from longshore.config_secrets import read_secret
from longshore.config_values import BucketLocation, FolderLocation, customer_key
from longshore.errors import UsageError
from longshore.surroundings import World

_M_ARENA_MAX = -8  # glibc, malloc.h
_ARENAS = 2

if TYPE_CHECKING:
    from longshore.core.builder import Client
    from longshore.core.entry import Source
    from longshore.core.services import Service, ServicesFile
    from longshore.engine.contract import Engine, EngineInfo
    from longshore.engine.disk import EngineDisk
    from longshore.ops.check import CheckSettings
    from longshore.ops.credentials import AssumeRole
    from longshore.ops.doctor import Place, Setup
    from longshore.ops.flush import FlushSettings
    from longshore.ops.importer import ImportSettings
    from longshore.ops.prefixing import BuildContext
    from longshore.ops.pruner import PruneSettings
    from longshore.ops.publishing import ExportSettings
    from longshore.ops.repair import RepairSettings
    from longshore.ops.report import Report
    from longshore.ops.stats import StatsSettings
    from longshore.signing_keys import Keys
    from longshore.store.aws_bucket import AwsBucket
    from longshore.store.contract import Store
    from longshore.store.encryption import Encryption
    from longshore.store.metrics import StoreMetrics
    from longshore.store.retry import Retry


def bound_allocator() -> None:
    """Have glibc keep few pools of freed memory, instead of eight for each core.

    Measured on an export of 400 MB with two cores: 156 MB at the peak instead of 235 MB.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another libc: nothing to bound
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def real_world() -> World:
    """Describe the process: its environment, its directory and its streams."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # whatever a terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    return World(
        environment=os.environ,
        directory=Path.cwd(),
        stdout=sys.stdout,
        stderr=sys.stderr,
        width=shutil.get_terminal_size().columns,
        open_store=open_store,
        open_engine=open_engine,
        open_sts=open_sts,
        stdin=sys.stdin,
    )


def open_store(settings: Settings, metrics: StoreMetrics, report: Report) -> Store:
    """Make the store that the settings name, with all that is around it.

    Raises:
        UsageError: they name none.
    """
    import asyncio

    from longshore.store.limit import LimitStore
    from longshore.store.metrics import MetricsStore
    from longshore.store.retry import RetryStore

    def repeated(retry: Retry) -> None:
        metrics.count_retry(retry)
        if settings.verbose or retry.attempt > 1:
            report.line(
                f"{retry.error} (attempt {retry.attempt} of {retry.attempts}; again in"
                f" {retry.delay.total_seconds():.1f} s)"
            )

    # A turn is given back before the wait for the next attempt, and only what succeeds in the end
    # counts as one request.
    return MetricsStore(
        RetryStore(
            LimitStore(_bare_store(settings), concurrency=settings.concurrency),
            attempts=config.STORE_ATTEMPTS,
            base=config.RETRY_BASE,
            cap=config.RETRY_CAP,
            sleep=asyncio.sleep,
            random=random.SystemRandom().random,
            report=repeated,
        ),
        metrics,
        clock=time.monotonic,
    )


def _bare_store(settings: Settings) -> Store:
    if settings.store is None:
        raise UsageError(
            "no store is set; name one with --store s3://bucket/prefix, with LONGSHORE_STORE,"
            " or with `store = …` in longshore.toml"
        )
    encryption = _encryption(settings)
    if isinstance(settings.store, FolderLocation):
        if encryption is not None:
            raise UsageError(
                "--sse, --kms-key and --sse-customer-key are for S3; a folder is not encrypted"
            )
        from longshore.store.directory import DirectoryStore

        return DirectoryStore(settings.store.path)
    from longshore.store.encryption import NO_ENCRYPTION, check_way
    from longshore.store.s3_certificates import import_without_certificates

    import_without_certificates()
    from longshore.store.s3 import S3Store

    if encryption is not None:
        check_way(encryption, settings.endpoint_url)
    return S3Store(
        bucket=settings.store.bucket,
        prefix=settings.store.prefix,
        endpoint_url=settings.endpoint_url,
        concurrency=settings.concurrency,
        connect_timeout=config.CONNECT_TIMEOUT,
        read_timeout=config.READ_TIMEOUT,
        encryption=encryption or NO_ENCRYPTION,
    )


def open_bucket(settings: Settings, name: str) -> AbstractContextManager[AwsBucket]:
    """Open a bucket itself, to look at its properties and to change them."""
    from longshore.store.aws_bucket import open_bucket

    return open_bucket(
        name,
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        connect_timeout=config.CONNECT_TIMEOUT,
        read_timeout=config.READ_TIMEOUT,
    )


def _encryption(settings: Settings) -> Encryption | None:
    """Say how S3 shall encrypt; `None` if nobody asked for anything.

    Raises:
        UsageError: what was asked for contradicts itself, or the customer's key cannot be read.
    """
    from longshore.store.encryption import Encryption

    secret, kms_key, algorithm = settings.sse_customer_key, settings.kms_key, settings.sse
    if secret is None and kms_key is None and algorithm is None:
        return None
    if secret is not None:
        if kms_key is not None or algorithm is not None:
            raise UsageError("--sse-customer-key goes with neither --sse nor --kms-key")
        key = customer_key(read_secret(secret, Path()))
        if key is None:
            raise UsageError(f"{secret.source}: the key is not 32 bytes, plain or in base64")
        return Encryption(customer_key=key)
    if kms_key is not None and algorithm == "AES256":
        raise UsageError("--kms-key goes with --sse aws:kms or aws:kms:dsse, not with AES256")
    return Encryption(algorithm or "aws:kms", kms_key)


def open_engine() -> Engine:
    """Make the engine that the environment names, as the `docker` command finds it."""
    from longshore.engine.docker import DockerEngine

    return DockerEngine()


def open_sts(settings: Settings, region: str | None) -> AssumeRole:
    """Say which STS to ask: AWS's, or the one that is named, or the S3 server, which may have one.

    Args:
        region: of AWS; its configuration names one otherwise.
    """
    from functools import partial

    from longshore.store.aws_sts import assume_role
    from longshore.store.s3_errors import is_aws

    beside = None if is_aws(settings.endpoint_url) else settings.endpoint_url
    return partial(
        assume_role,
        endpoint_url=settings.sts_endpoint_url or beside,
        region=region,
        connect_timeout=config.CONNECT_TIMEOUT,
        read_timeout=config.READ_TIMEOUT,
    )


def export_settings(settings: Settings, source: Source, keys: Keys) -> ExportSettings:
    """Say how an export runs."""
    from longshore.ops.packing import PART_BYTES
    from longshore.ops.publishing import ExportSettings

    return ExportSettings(
        level=settings.level,
        parents=settings.parents,
        concurrency=settings.parts_at_once(PART_BYTES),
        agent=f"longshore/{__version__}",
        source=source,
        random=os.urandom,
        clock=time.monotonic,
        sign=keys.signing.sign if keys.signing else None,
        disk=engine_disk(settings),
    )


def engine_disk(
    settings: Settings, *, tell: bool = False
) -> Callable[[EngineInfo], EngineDisk | None] | None:
    """Say how the engine's disk is opened; `None` if nobody is to try.

    Args:
        tell: raise if it cannot be read, even if nobody said that it could.
    """
    if not settings.direct:
        return None
    from functools import partial

    from longshore.engine.disk import find_disk, open_disk

    if settings.data_root is None and not tell:
        return partial(find_disk, containerd_root=config.CONTAINERD_ROOT)
    return partial(open_disk, data_root=settings.data_root, containerd_root=config.CONTAINERD_ROOT)


def import_settings(
    settings: Settings,
    client: Callable[[], Client] | None,
    contexts: Mapping[str, BuildContext],
    builds: Collection[str],
    builds_with: Callable[[], Client],
) -> ImportSettings:
    """Say how an import runs.

    Args:
        client: finds out what will build; `None` if nobody wants to know what to tell it.
        contexts: what services will be built from, where that is known.
        builds: the services that are built for sure, right after this import.
        builds_with: finds out what will build these.
    """
    from longshore.ops.importer import ImportSettings

    return ImportSettings(
        settings.window_bytes,
        time.monotonic,
        client,
        contexts,
        builds=frozenset() if settings.whole else frozenset(builds),
        builds_with=builds_with,
    )


def prune_settings(
    settings: Settings, *, dry_run: bool, branches: frozenset[str] | None = None
) -> PruneSettings:
    """Say how prune runs.

    Args:
        branches: the scopes that exist by somebody's word; `None` if nobody was asked.
    """
    from longshore.core.keys import segment
    from longshore.core.retention import Rules
    from longshore.ops.pruner import PruneSettings
    from longshore.store.clock import seconds_since_boot

    return PruneSettings(
        rules=Rules(
            keep_last=settings.keep_last,
            keep_within=settings.keep_within,
            gone_after=settings.gone_after,
            branches=None if branches is None else frozenset(map(segment, branches)),
            protected=frozenset(map(segment, settings.protect)),
        ),
        max_bytes=settings.max_size,
        repack_below=settings.repack_below,
        grace=settings.grace,
        dry_run=dry_run,
        random=os.urandom,
        clock=seconds_since_boot,
    )


def sweep_now_settings(places: Iterable[tuple[str, str, str]]) -> PruneSettings:
    """Say how prune runs if nothing else does: of these places what is hidden goes, at once.

    Args:
        places: each the segments of a scope, a service and a platform.
    """
    from longshore.core.retention import Rules
    from longshore.ops.pruner import PruneSettings
    from longshore.store.clock import seconds_since_boot

    return PruneSettings(
        rules=Rules(keep_last=sys.maxsize, only=frozenset(places)),
        max_bytes=None,
        repack_below=0.0,
        grace=timedelta(),
        dry_run=False,
        random=os.urandom,
        clock=seconds_since_boot,
    )


def flush_settings(keys: Keys) -> FlushSettings:
    """Say how a flush runs."""
    from longshore.ops.flush import FlushSettings

    return FlushSettings(
        agent=f"longshore/{__version__}",
        random=os.urandom,
        sign=keys.signing.sign if keys.signing else None,
    )


def check_settings(settings: Settings) -> CheckSettings:
    """Say how a check runs."""
    from longshore.ops.check import CheckSettings

    return CheckSettings(
        share=settings.read_data,
        window_bytes=settings.check_window_bytes,
        random=os.urandom,
    )


def repair_settings() -> RepairSettings:
    """Say how a repair runs."""
    from longshore.ops.repair import RepairSettings
    from longshore.store.clock import seconds_since_boot

    return RepairSettings(random=os.urandom, clock=seconds_since_boot)


def stats_settings(settings: Settings) -> StatsSettings:
    """Say how figures are made."""
    from longshore.ops.stats import StatsSettings

    return StatsSettings(limit_bytes=settings.window_bytes, last=config.LAST_ENTRIES)


def doctor_setup(
    settings: Settings,
    services: Callable[[], ServicesFile | tuple[Service, ...]],
    place: Callable[[], Place],
    *,
    engine: Callable[[], Engine],
    store: Callable[[], Store],
) -> Setup:
    """Say what the doctor looks at."""
    from longshore.ops.doctor import Credentials, Setup

    async def credentials() -> Credentials | None:
        from longshore.store.s3_connection import find_credentials

        found = await find_credentials()
        return Credentials(*found) if found else None

    return Setup(
        services=services,
        place=place,
        engine=engine,
        store=store,
        credentials=credentials if isinstance(settings.store, BucketLocation) else None,
        free_bytes=None,
        disk=engine_disk(settings, tell=True),
        clock=lambda: datetime.now(UTC),  # noqa: TID251 - clocks are made here
        random=os.urandom,
        timeout=min(config.CHECK_TIMEOUT, settings.timeout),
    )
