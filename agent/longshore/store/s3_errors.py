"""Turn everything that botocore, aiohttp and the network raise into longshore's own errors.

This is the one seam: what leaves `store/s3.py` went through `translate`. The HTTP status decides
where it can, because some servers send no error code. A message never carries what a server might
have echoed of the request's credentials.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from msgspec import Struct

from longshore.core.foreign_words import one_line
from longshore.errors import (
    AccessDenied,
    CorruptData,
    LongshoreError,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from longshore.store.s3_credentials import CredentialsFailed

# A body that is cut short arrives as aiohttp's ClientPayloadError, which is no BotoCoreError;
# ResponseParserError is none either. ValueError is how botocore reports an endpoint that is no URL,
# KeyError how its parsers fail on an answer that lacks something.
S3_FAILURES = (
    ClientError,
    BotoCoreError,
    ResponseParserError,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,  # with TimeoutError and ssl.SSLError
    ValueError,
    KeyError,
)

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_WRONG_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}
_LATER = {  # with a status below 500
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_OBJECT_READS = {"GetObject", "HeadObject"}
# AWS says so in the message only: the code is AccessDenied.
_ABOUT_KMS = re.compile(r"\bkms:[A-Z]")
_ABOUT_ENCRYPTION = re.compile(r"(?i)server[- ]side encryption|customer[- ]provided")
_KEYS_BLOCKED = (
    "; AWS refuses every --sse-customer-key, if the bucket's encryption settings do not allow it"
)
_PART_OF_UPLOAD = {"UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"}
_NO_CREDENTIALS = (
    boto.CredentialRetrievalError,
    boto.LoginError,
    boto.MetadataRetrievalError,
    boto.NoAuthTokenError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.RefreshWithMFAUnsupportedError,
    boto.SSOError,
    boto.TokenRetrievalError,
    boto.UnknownCredentialError,
)


Cleaned = Callable[[str], str]
"""Makes one short line of foreign words, without secrets."""


class UploadGone(StoreError):
    """There is no such multipart upload: it was aborted or completed, or never begun."""


class ReadRefused(AccessDenied):
    """An object may not be read; which may mean that there is none."""


class Unsupported(StoreError):
    """The server does not know the operation, or not in the form in which it is used."""


class Request(Struct, frozen=True):
    """What was asked of the store, in the words of an error message."""

    verb: str
    """As in "cannot read"."""
    target: str
    """The object's URL."""
    bucket: str
    endpoint: str
    """The host that was asked, for people."""
    service: str = "S3"
    """What is expected there."""
    has_customer_key: bool = False
    """Whether it went with a customer's key (SSE-C)."""


def translate(error: Exception, request: Request, sent: Collection[str] = ()) -> LongshoreError:
    """Say in longshore's words what went wrong.

    Args:
        sent: secrets that the request held, which no message may.
    """
    cleaned = partial(one_line, sent=sent)
    if isinstance(error, ClientError):
        return _translate_answer(error, request, cleaned)
    failure = f"cannot {request.verb} {request.target}"
    if isinstance(error, CredentialsFailed):
        return AccessDenied(f"{failure}: {error}")
    cause = _root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreError(
            f"{failure}: the certificate of {request.endpoint} is not trusted: "
            f"{cleaned(cause.verify_message)}; set AWS_CA_BUNDLE to the CA's file"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
    }:
        return StoreError(
            f"{failure}: {request.endpoint} does not speak TLS; check the endpoint's http or https"
        )
    match error:
        case boto.ProfileNotFound():
            return AccessDenied(f"{failure}: {cleaned(str(error))}; check AWS_PROFILE")
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            return AccessDenied(
                f"{failure}: no complete credentials were found; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a profile or a role"
            )
        case _ if isinstance(error, _NO_CREDENTIALS):
            return AccessDenied(
                f"{failure}: no credentials could be had ({type(error).__name__}); "
                "log in again or check the role"
            )
        case boto.NoRegionError():
            return StoreError(f"{failure}: no region is configured; set AWS_DEFAULT_REGION")
        case boto.ConnectTimeoutError() | boto.ReadTimeoutError() | TimeoutError():
            return StoreUnavailable(
                f"{failure}: {request.endpoint} did not answer in time; "
                "check the network and the endpoint"
            )
        case boto.EndpointConnectionError() | boto.ProxyConnectionError():
            return StoreUnavailable(
                f"{failure}: no connection to {request.endpoint}: {_reason(cause, cleaned)}; "
                "check the network and the endpoint"
            )
        case boto.ParamValidationError():
            return StoreError(f"{failure}: {cleaned(str(error))}; check --store")
        case ResponseParserError() | KeyError():
            return not_s3(request)
        case boto.HTTPClientError() if isinstance(cause, ValueError | TypeError):
            return StoreError(f"{failure}: {_reason(cause, cleaned)}; check the endpoint")
        case (
            boto.HTTPClientError()
            | boto.ConnectionError()
            | boto.IncompleteReadError()
            | boto.FlexibleChecksumError()
            | aiohttp.ClientError()
            | HttpProcessingError()
            | OSError()
        ):
            return StoreUnavailable(
                f"{failure}: the connection to {request.endpoint} broke: "
                f"{_reason(cause, cleaned)}; try again"
            )
        case _:
            return StoreError(f"{failure}: {cleaned(str(error))}; check the endpoint and --store")


def _translate_answer(error: ClientError, request: Request, cleaned: Cleaned) -> LongshoreError:
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    details = error.response.get("Error", {})
    code = str(details.get("Code") or "")
    operation = error.operation_name
    failure = f"cannot {request.verb} {request.target}"
    name, message = _name(status, code, cleaned), _message(details, cleaned)
    answer = f"the store answered {name}"

    if code in EXPIRED:
        return AccessDenied(
            f"{failure}: the credentials have expired ({name}); get new ones, or use"
            " a role or a credential_process, which are refreshed"
        )
    if code in BAD_CREDENTIALS:
        return AccessDenied(
            f"{failure}: the credentials have expired or are wrong ({name}); get new ones"
        )
    if code == "RequestTimeTooSkewed":
        return StoreError(
            f"{failure}: {answer}; the clock of this machine differs too much from the store's, "
            "set it right"
        )
    if code in _WRONG_REGION or status in {301, 302, 307, 308}:
        region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or details.get("Region")
        advice = (
            f"set the region to {cleaned(str(region))}" if region else "set the bucket's region"
        )
        return StoreError(
            f"{failure}: the bucket {request.bucket} is in another region ({name}); "
            f"{advice}, or check the endpoint"
        )
    if code == "NoSuchBucket":
        return _no_bucket(failure, request)
    if status in {405, 501} or code in {"MissingContentMD5", "NotImplemented"}:
        return Unsupported(f"{failure}: {answer}; the server does not support this")
    if status == 507 or code in {"InsufficientCapacity", "QuotaExceeded", "XMinioStorageFull"}:
        return StoreError(f"{failure}: {answer}{message}; prune the cache or make room")
    if status >= 500 or status in {408, 425, 429} or code in _LATER:
        return StoreUnavailable(f"{failure}: {answer}; try again later")
    if code.startswith("KMS.") or _ABOUT_KMS.search(str(details.get("Message") or "")):
        return AccessDenied(
            f"{failure}: {answer}{message}; check --kms-key, and that the credentials may"
            " use it (kms:GenerateDataKey and kms:Decrypt)"
        )
    if operation in _OBJECT_READS and (advice := _other_key(status, details, request)):
        return AccessDenied(f"{failure}: {answer}{message}; {advice}")
    if status in {401, 403}:
        denied = f"{failure}: access denied ({name}){message}"
        blocked = _KEYS_BLOCKED if request.has_customer_key else ""
        if operation in _OBJECT_READS:
            # Who may not list, or only with a prefix, is told 403 where S3 means 404.
            return ReadRefused(
                f"{denied}; it may also not exist, if the credentials do not allow s3:ListBucket; "
                f"check the credentials and their policy{blocked}"
            )
        return AccessDenied(f"{denied}; check the credentials and their policy{blocked}")
    if status == 404:
        if code == "NoSuchUpload" or operation in _PART_OF_UPLOAD:
            return UploadGone(f"{failure}: its multipart upload is gone; start another")
        if operation in _OBJECT_READS:
            return ObjectMissing(f"{request.target} is not in the store")
        return _no_bucket(failure, request)
    if status == 416:
        return CorruptData(f"{request.target} ends before the bytes that were asked for")
    if status == 400 and code in {"", "400"}:
        return StoreError(
            f"{failure}: {answer} without a reason; "
            "expired credentials or a wrong region can look like this, and so can an object that "
            "was written with a --sse-customer-key"
        )
    return StoreError(f"{failure}: {answer}{message}; check --store and the endpoint")


def _other_key(status: int, details: Any, request: Request) -> str:
    """Say what to do if an object was written with another customer's key, or if none fits."""
    code, text = str(details.get("Code") or ""), str(details.get("Message") or "")
    if status == 403 and request.has_customer_key:
        return (
            "it was written with another --sse-customer-key, or the credentials and their policy "
            "do not allow it"
        )
    if status != 400:
        return ""
    if request.has_customer_key and code in {"InvalidRequest", "InvalidArgument", "", "400"}:
        return (
            "it was not written with a --sse-customer-key; use another prefix in --store for what "
            "is, or leave the key away"
        )
    if _ABOUT_ENCRYPTION.search(text):
        return "it was written with a --sse-customer-key, and cannot be read without"
    return ""


def not_s3(request: Request) -> StoreError:
    """Say that the answer came from something else, such as a login page or a web server."""
    return StoreError(
        f"cannot {request.verb} {request.target}: {request.endpoint} answered with something that "
        f"is not {request.service}; check the endpoint"
    )


def not_deleted(failures: Mapping[str, str], request: Request) -> StoreError:
    """Say which objects a batch left behind.

    As long as one failure may pass, the whole deletion may be repeated: what is gone stays gone.

    Args:
        failures: the store's error code for each key.
        request: with the first key of them as its target.
    """
    codes = set(failures.values())
    later = {code for code in codes if not code or code in _LATER}
    kind = StoreUnavailable if later else AccessDenied if codes == {"AccessDenied"} else StoreError
    return kind(
        f"cannot delete {len(failures)} objects, the first: {request.target} "
        f"({one_line(next(iter(failures.values()))) or 'no reason given'}); "
        + ("try again" if later else "check the credentials and their policy")
    )


def _no_bucket(failure: str, request: Request) -> StoreError:
    return StoreError(
        f"{failure}: bucket {request.bucket} does not exist; create it or check --store"
    )


def _name(status: int, code: str, cleaned: Cleaned) -> str:
    return f"{status} {cleaned(code)}" if code and code != str(status) else str(status)


def _message(details: Any, cleaned: Cleaned) -> str:
    text = cleaned(str(details.get("Message") or ""))
    return f": {text}" if text else ""


def _root_cause(error: BaseException) -> BaseException:
    """Find what the network or TLS said, below the layers that wrapped it."""
    for _ in range(10):
        inner = getattr(error, "kwargs", {}).get("error") or error.__cause__
        if not isinstance(inner, BaseException):
            inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
    return error


def _reason(cause: BaseException, cleaned: Cleaned) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cleaned(cause.strerror)
    return cleaned(str(cause)) or type(cause).__name__


def is_aws(endpoint_url: str | None) -> bool:
    """Tell whether an endpoint is one of AWS's, as it is if none is named."""
    host = urlsplit(endpoint_url or "").hostname
    return host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
