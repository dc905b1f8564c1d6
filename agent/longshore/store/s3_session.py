"""Sessions of the SDK's that start and read quickly.

The SDK reads its descriptions of services with a slow form of JSON, for each session anew, which
takes a tenth of a second; and it takes longer to read a date than to sign a request.
"""

from __future__ import annotations

import gzip
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import msgspec
from aiobotocore import __version__ as sdk_version
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError
from botocore.loaders import JSONFileLoader, Loader, create_loader
from botocore.utils import parse_timestamp

from longshore import __version__

USER_AGENT = f"longshore/{__version__} aiobotocore/{sdk_version}"
"""What servers log. The SDK makes its own for each request, from twenty parts."""
_ready: list[AioSession] = []
_NOBODY = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
"""So that no provider of credentials is asked for any."""


def new_session(profile: str | None = None) -> AioSession:
    """Make a session with a profile, or with what the environment says.

    After `warm`, the first one without a profile is there already, and has read nothing yet.

    Raises:
        BotoCoreError: the AWS configuration cannot be used, or has no such profile.
    """
    session = _ready.pop() if _ready and profile is None else AioSession(profile=profile)
    _quicken(session)
    return session


def warm() -> None:
    """Do what every session has to, so that processes forked from this one need not."""
    _ready.append(AioSession())
    session = botocore.session.Session()
    with suppress(BotoCoreError):  # a session that is needed will tell
        _quicken(session)
        session.create_client("s3", region_name="us-east-1", **_NOBODY)


def read_date(value: Any) -> datetime:
    """Read a date of an answer: of a header or of a document, or whatever else the SDK takes."""
    with suppress(ValueError, TypeError):
        date = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        if date.tzinfo is not None:
            return date
    slowly: datetime = parse_timestamp(value)
    return slowly


def _quicken(session: Any) -> None:
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_date)


@cache
def _loader(paths: str | None) -> Loader:
    loader = create_loader(paths)
    loader.file_loader = _Files()
    return loader


class _Files(JSONFileLoader):  # type: ignore[misc]
    """Read descriptions as the SDK does, an eighth of the time long."""

    def load_file(self, file_path: str) -> Any:
        """Read a file, whose name is given without its ending; `None` if there is none."""
        for file, opened in (
            (Path(f"{file_path}.json"), open),
            (Path(f"{file_path}.json.gz"), gzip.open),
        ):
            with suppress(FileNotFoundError, IsADirectoryError), opened(file, "rb") as data:
                return msgspec.json.decode(data.read())
        return None
