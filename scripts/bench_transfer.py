"""One S3 object from standard input, or to standard output, as the usual client does it.

    python -m scripts.bench_transfer put|get BUCKET KEY

with the endpoint and the credentials in the environment. Parts of 8 MiB, ten at once.
"""

from __future__ import annotations

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config


def main(verb: str, bucket: str, key: str) -> None:
    """Move one object."""
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["LONGSHORE_ENDPOINT_URL"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    how = TransferConfig(max_concurrency=10)
    if verb == "put":
        client.upload_fileobj(sys.stdin.buffer, bucket, key, Config=how)
    else:
        client.download_fileobj(bucket, key, sys.stdout.buffer, Config=how)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
