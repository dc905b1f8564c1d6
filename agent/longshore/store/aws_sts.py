"""Ask STS for the credentials of a role, narrowed by a policy."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from longshore.core.foreign_words import endpoint_name, one_line
from longshore.core.session_credentials import SessionCredentials
from longshore.errors import AccessDenied, LongshoreError, StoreError, StoreUnavailable
from longshore.store.aws import open_client, translated
from longshore.store.s3_errors import BAD_CREDENTIALS, EXPIRED, Request

_CHAINED = timedelta(hours=1)
_LATER = {"IDPCommunicationError", "RequestLimitExceeded", "Throttling", "ThrottlingException"}


async def assume_role(
    *,
    role_arn: str,
    session_name: str,
    policy: str,
    duration: timedelta,
    endpoint_url: str | None,
    region: str | None,
    connect_timeout: timedelta,
    read_timeout: timedelta,
    session: Any = None,
) -> SessionCredentials:
    """Assume a role with an inline policy: the session may do what both of them allow.

    Args:
        endpoint_url: of an STS that is not AWS's.

    Raises:
        AccessDenied: the caller's credentials are wrong, or may not assume the role.
        StoreError: STS cannot be asked, or refuses what it was asked for.
    """
    request = Request(
        "get",
        f"credentials of {role_arn}",
        bucket="",
        endpoint=endpoint_name(endpoint_url, "AWS STS"),
        service="STS",
    )

    def ask() -> dict[str, Any]:
        with (
            translated(request),
            open_client(
                "sts",
                endpoint_url=endpoint_url,
                region=region,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                session=session,
            ) as client,
        ):
            try:
                answer: dict[str, Any] = client.assume_role(
                    RoleArn=role_arn,
                    RoleSessionName=session_name,
                    Policy=policy,
                    DurationSeconds=int(duration.total_seconds()),
                )
            except ClientError as error:
                raise _refused(error, request, role_arn, duration) from error
            found: dict[str, Any] = answer["Credentials"]
            return found

    found = await asyncio.to_thread(ask)
    try:
        return SessionCredentials(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expires_at=found["Expiration"],
        )
    except KeyError:
        raise StoreError(
            f"{request.endpoint} answered without credentials; check the STS endpoint"
        ) from None


def _refused(
    error: ClientError, request: Request, role_arn: str, duration: timedelta
) -> LongshoreError:
    """Say why STS handed nothing out.

    SeaweedFS answers as S3 would, of which the STS client understands the status only.
    """
    details = error.response.get("Error", {})
    code = str(details.get("Code") or "")
    said = one_line(str(details.get("Message") or ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    failure = f"cannot {request.verb} {request.target}"
    answer = f"{request.endpoint} answered {status}{f' {one_line(code)}' if code else ''}"
    reason = f": {said}" if said else ""

    if code in BAD_CREDENTIALS | EXPIRED:
        return AccessDenied(
            f"{failure}: the credentials of whoever asks have expired or are wrong ({answer});"
            " get new ones"
        )
    if code == "PackedPolicyTooLarge":
        return StoreError(
            f"{failure}: the policy takes more room than STS has ({answer}{reason});"
            " name fewer --fallback scopes"
        )
    if code == "RegionDisabledException":
        return StoreError(f"{failure}: STS is switched off in this region; name another one")
    if status >= 500 or status == 429 or code in _LATER:
        return StoreUnavailable(f"{failure}: {answer}{reason}; try again later")
    if status in {401, 403} or code in {"AccessDenied", "AccessDeniedException"}:
        return AccessDenied(
            f"{failure}: {answer}{reason}; whoever asks needs"
            f"{'' if code else ' valid credentials,'} sts:AssumeRole on the role, and to be named"
            " by its trust policy"
        )
    if "DurationSeconds" in said or (status == 400 and not code and duration > _CHAINED):
        return StoreError(f"{failure}: {answer}{reason}; {_shorter(duration)}")
    if status in {404, 405, 501}:
        return StoreError(f"{failure}: {answer}; it has no STS, name one by --sts-endpoint-url")
    return StoreError(f"{failure}: {answer}{reason}; check the role and the STS endpoint")


def _shorter(duration: timedelta) -> str:
    if duration <= _CHAINED:
        return "ask for another --duration"
    return (
        "ask for a shorter --duration, or raise the role's MaxSessionDuration; whoever has assumed"
        " another role to ask this (role chaining) gets 1h at most"
    )
