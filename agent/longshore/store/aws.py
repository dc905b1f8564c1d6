"""Clients of AWS services for administration: one request now and then, by boto3.

What moves images is `store/s3.py`. Whoever talks to such a client does so within `translated`, so
that its failures leave as longshore's errors. The calls block: run them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import boto3
from botocore.config import Config

from longshore.store.s3_errors import S3_FAILURES, Request, is_aws, translate

ATTEMPTS = 3

# What a server that is not AWS takes, whatever it calls its region; the name is part of signatures.
_ANY_REGION = "us-east-1"


@contextmanager
def open_client(
    service: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    session: Any = None,
) -> Iterator[Any]:
    """Open a client of a service, such as `s3` or `sts`, with the default chain of credentials.

    Args:
        endpoint_url: of a server that is not AWS.
        region: else the one of the AWS configuration, else what is global at AWS.
        session: a boto3 session to use in place of a new one.
    """
    session = session or boto3.Session()
    region = region or session.region_name or (_ANY_REGION if endpoint_url else None)
    client = session.client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "auto" if is_aws(endpoint_url) else "path"},
        ),
    )
    with closing(client):
        yield client


@contextmanager
def translated(request: Request) -> Iterator[None]:
    """Let every failure of a client, and of opening one, out as one of longshore's errors."""
    try:
        yield
    except S3_FAILURES as error:
        raise translate(error, request) from error
