"""The credentials of a session, and what is said if whoever provides them has none.

They are found and refreshed by the SDK's chain of providers: variables, profiles, web identity,
container and instance roles, `credential_process`. What goes wrong there is none of S3's answers,
and may quote secrets (the output of a process, the body of an endpoint), so it is told in words of
our own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import (
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.utils import parse_timestamp

_LONGEST_CODE = 60
_ADVICE = {
    "assume-role": "check the role of the profile, and what it is assumed with",
    "assume-role-with-web-identity": (
        "check AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, whose token may have expired"
    ),
    "container-role": "check AWS_CONTAINER_CREDENTIALS_FULL_URI and its service",
    "custom-process": "run the credential_process of the profile by hand to see why",
    "env": "set new ones, or use a profile or role that can be refreshed",
    "iam-role": "check the instance's role and its metadata service",
}

# A refresh that fails is logged with its traceback, and without a handler that goes to stderr.
logging.getLogger("aiobotocore").addHandler(logging.NullHandler())


class CredentialsFailed(Exception):
    """Nobody has credentials to give; the text is fit for people."""


async def find(session: Any, *, patience: timedelta) -> Any:
    """Find the credentials of a session, and watch over their refreshes.

    Args:
        patience: for a provider; the SDK would ask STS for minutes, and a process without an end.

    Raises:
        CredentialsFailed: a provider was found, and has none to give.
        BotoCoreError: the configuration names none that is complete.
    """
    try:
        async with asyncio.timeout(patience.total_seconds()):
            credentials = await session.get_credentials()
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound):
        raise
    except Exception as error:
        raise CredentialsFailed(
            _told(getattr(error, "kwargs", {}).get("provider"), error)
        ) from error
    refresh = getattr(credentials, "_refresh_using", None)
    if refresh is not None and not isinstance(refresh, _Watched):
        credentials._refresh_using = _Watched(credentials, refresh, patience)
    return credentials


class _Watched:
    """A provider's way to refresh credentials, whose failures are all of one kind.

    It is where botocore has the one it was given. Raised here, a failure lets botocore go on with
    credentials that are good for some minutes more; raised later, it does not.
    """

    def __init__(self, credentials: Any, refresh: Callable[[], Any], patience: timedelta) -> None:
        self._credentials = credentials
        self._refresh = refresh
        self._patience = patience

    async def __call__(self) -> Any:
        provider = str(self._credentials.method)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                found = self._refresh()
                if inspect.isawaitable(found):
                    found = await found
        except Exception as error:
            raise CredentialsFailed(_told(provider, error)) from error
        if not found or not found.get("access_key"):
            raise CredentialsFailed(f"{_none_from(provider)}; {_advice(provider)}")
        if self._is_past(found.get("expiry_time")):
            raise CredentialsFailed(
                f"the credentials from {provider} have expired; {_advice(provider)}"
            )
        return found

    def _is_past(self, expiry: object) -> bool:
        try:
            end = expiry if isinstance(expiry, datetime) else parse_timestamp(str(expiry))
            return bool(end <= self._credentials._time_fetcher())
        except (ValueError, TypeError):
            return False  # botocore finds out


def _told(provider: str | None, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        code = "".join(
            c for c in str(error.response.get("Error", {}).get("Code", "")) if c.isalnum()
        )
        reason = f"{error.operation_name} was answered {status} {code[:60]}".rstrip()
    else:
        reason = type(error).__name__
    return f"{_none_from(provider)} ({reason}); {_advice(provider)}"


def _none_from(provider: str | None) -> str:
    return "no credentials could be had" + (f" from {provider}" if provider in _ADVICE else "")


def _advice(provider: str | None) -> str:
    return _ADVICE.get(provider or "", "log in again or check the role")
