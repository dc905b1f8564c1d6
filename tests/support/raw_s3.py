"""A way to a bucket that does not go through longshore's store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from tests.support.seaweedfs import ADMIN, Credentials


class RawBucket:
    """The objects of one bucket below a prefix, read and written with boto3.

    Args:
        prefix: empty, or ends in `/`.
    """

    def __init__(
        self, endpoint_url: str, bucket: str, prefix: str = "", credentials: Credentials = ADMIN
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(
            self.client.put_object, Bucket=self.bucket, Key=self.prefix + key, Body=data
        )

    async def objects(self) -> Mapping[str, bytes]:
        return await asyncio.to_thread(self._objects)

    async def uploads(self) -> list[str]:
        """Name the keys of the multipart uploads that have begun and not ended."""
        answer = await asyncio.to_thread(
            self.client.list_multipart_uploads, Bucket=self.bucket, Prefix=self.prefix
        )
        return [upload["Key"].removeprefix(self.prefix) for upload in answer.get("Uploads", ())]

    def close(self) -> None:
        self.client.close()

    def _objects(self) -> Mapping[str, bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key.removeprefix(self.prefix): self._read(key) for key in keys}

    def _read(self, key: str) -> bytes:
        with self.client.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            data: bytes = body.read()
            return data
