"""Compare a bucket with what it should be, and say what has to be done: nothing is done here.

Every property has a step, also if it is right already, so that people see what was looked at.
What others put into the bucket's policy and lifecycle rules stays there.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from longshore.core.bucket_lifecycle import aborts_uploads, rules_that_harm, with_abort_rule
from longshore.core.bucket_policy import is_policy, is_tls_only, with_tls_only
from longshore.core.policy import Place

Name = Literal["bucket", "ownership", "encryption", "tls", "public-access", "uploads"]
Verdict = Literal["right", "create", "change", "unsupported", "refused", "left out"]

PUBLIC_ACCESS = (
    "BlockPublicAcls",
    "IgnorePublicAcls",
    "BlockPublicPolicy",
    "RestrictPublicBuckets",
)
OWNER = "BucketOwnerEnforced"


class Unknown(Struct, frozen=True):
    """Why a property of a bucket cannot be told.

    Args:
        unsupported: the server has no such property; otherwise it may, and does not tell.
    """

    reason: str
    unsupported: bool = False


Property = dict[str, Any] | Unknown | None
"""A property as the server gives it; `None` if it was never set."""


class BucketState(Struct, frozen=True):
    """What a bucket is like, each property as S3 writes it."""

    region: str | None = None
    ownership: Property = None
    encryption: Property = None
    policy: Property = None
    public_access: Property = None
    lifecycle: Property = None


class Wanted(Struct, frozen=True):
    """What a bucket should be like.

    Args:
        region: where to create it; `None` is the server's own.
        upload_days: how long an unfinished upload is kept.
        tls: whether requests without TLS are refused; where they are not, `why_no_tls` says why.
    """

    place: Place
    region: str | None
    upload_days: int
    tls: bool = True
    why_no_tls: str = ""


class Step(Struct, frozen=True):
    """One property: what it will be or is, and what it takes.

    Attributes:
        text: what the property is when the step is done.
        now: what it is instead, if it has to be changed, or why nothing can be done.
        notes: what people should know besides.
        value: what to write, if there is something to write.
    """

    name: Name
    verdict: Verdict
    text: str
    now: str = ""
    notes: tuple[str, ...] = ()
    value: dict[str, Any] | None = None

    @property
    def writes(self) -> bool:
        """Whether something has to be written."""
        return self.verdict in ("create", "change")


def plan_bucket(state: BucketState | None, wanted: Wanted) -> tuple[Step, ...]:
    """Say what has to be done, in the order in which it is done.

    The policy comes before public access is blocked: a bucket that refuses public policies would
    refuse the one with an older, public statement in it as well.

    Args:
        state: `None` if there is no such bucket.
    """
    bucket = _plan_bucket(state, wanted)
    found = state or BucketState()
    return (
        bucket,
        _plan_ownership(found.ownership),
        _plan_encryption(found.encryption, wanted.place.kms_key),
        _plan_tls(found.policy, wanted),
        _plan_public_access(found.public_access),
        _plan_uploads(found.lifecycle, wanted),
    )


def _plan_bucket(state: BucketState | None, wanted: Wanted) -> Step:
    name = wanted.place.bucket
    if state is None:
        where = f" in {wanted.region}" if wanted.region else ""
        return Step("bucket", "create", f"the bucket {name} exists{where}")
    region = f", in {state.region}" if state.region else ""
    notes = (
        (f"it is not in {wanted.region}, and buckets cannot be moved",)
        if wanted.region and state.region and wanted.region != state.region
        else ()
    )
    return Step("bucket", "right", f"the bucket {name} exists{region}", notes=notes)


def _plan_ownership(found: Property) -> Step:
    text = "objects belong to the bucket's owner, and ACLs count for nothing"
    if isinstance(found, Unknown):
        return _unknown("ownership", text, found)
    rules = _rules(found)
    is_now = rules[0].get("ObjectOwnership") if rules else None
    if is_now == OWNER:
        return Step("ownership", "right", text)
    value = {"Rules": [{"ObjectOwnership": OWNER}]}
    if is_now is None:
        return Step("ownership", "create", text, value=value)
    return Step("ownership", "change", text, f"{is_now}: ACLs count", value=value)


def _plan_encryption(found: Property, key: str | None) -> Step:
    text = f"objects are encrypted with the KMS key {key}" if key else "objects are encrypted"
    if isinstance(found, Unknown):
        return _unknown("encryption", text, found)
    rules = _rules(found)
    rule = rules[0] if rules else {}
    default = rule.get("ApplyServerSideEncryptionByDefault") or {}
    is_now = default.get("SSEAlgorithm")
    now = _encryption_text(default, bucket_key=bool(rule.get("BucketKeyEnabled")))
    if key is None:
        if is_now:
            return Step("encryption", "right", f"{text} ({now})")
        wanted: dict[str, Any] = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        text += " (SSE-S3)"
    else:
        wanted = {
            "ApplyServerSideEncryptionByDefault": {
                "SSEAlgorithm": "aws:kms",
                "KMSMasterKeyID": key,
            },
            # One key for many objects: S3 asks KMS far less often.
            "BucketKeyEnabled": True,
        }
        if {name: rule.get(name) for name in wanted} == wanted:
            return Step("encryption", "right", text)
    value = {"Rules": [{**rule, **wanted}, *rules[1:]]}
    if not is_now:
        return Step("encryption", "create", text, value=value)
    return Step("encryption", "change", text, now, value=value)


def _encryption_text(default: dict[str, Any], *, bucket_key: bool) -> str:
    algorithm = default.get("SSEAlgorithm")
    if algorithm == "AES256":
        return "SSE-S3"
    key = f", key {default['KMSMasterKeyID']}" if default.get("KMSMasterKeyID") else ""
    return f"{algorithm}{key}, bucket key {'on' if bucket_key else 'off'}"


def _plan_tls(found: Property, wanted: Wanted) -> Step:
    text = "requests without TLS are refused"
    place = wanted.place
    if not wanted.tls:
        return Step("tls", "left out", text, wanted.why_no_tls)
    if isinstance(found, Unknown):
        return _unknown("tls", text, found)
    if not is_policy(found if found is not None else {}):
        return Step("tls", "refused", text, "the bucket's policy is none that longshore can read")
    if is_tls_only(found, place):
        return Step("tls", "right", text)
    value = with_tls_only(found, place)
    if found is None:
        return Step("tls", "create", text, value=value)
    kept = len(value["Statement"]) - 1
    others = "statement" if kept == 1 else "statements"
    now = f"the policy does not; it keeps its {kept} other {others}"
    return Step("tls", "change", text, now, value=value)


def _plan_public_access(found: Property) -> Step:
    text = "public access is blocked"
    if isinstance(found, Unknown):
        return _unknown("public-access", text, found)
    value: dict[str, Any] = dict.fromkeys(PUBLIC_ACCESS, True)
    if found is None:
        return Step("public-access", "create", text, value=value)
    off = [name for name in PUBLIC_ACCESS if found.get(name) is not True]
    if not off:
        return Step("public-access", "right", text)
    return Step("public-access", "change", text, f"off: {', '.join(off)}", value=value)


def _plan_uploads(found: Property, wanted: Wanted) -> Step:
    prefix, days = wanted.place.prefix, wanted.upload_days
    where = f"below {prefix} " if prefix else ""
    text = f"uploads {where}that nobody finishes are removed after {days} days"
    if isinstance(found, Unknown):
        return _unknown("uploads", text, found)
    rules = _rules(found)
    notes = tuple(
        f"the lifecycle rule {name!r} deletes or archives objects of the cache;"
        " what a build needs may be gone"
        for name in rules_that_harm(rules, prefix)
    )
    if aborts_uploads(rules, prefix, days):
        return Step("uploads", "right", "uploads that nobody finishes are removed", notes=notes)
    value = {**(found or {}), "Rules": with_abort_rule(rules, prefix, days)}
    if len(value["Rules"]) > len(rules):
        return Step("uploads", "create", text, notes=notes, value=value)
    now = "longshore's lifecycle rule says otherwise"
    return Step("uploads", "change", text, now, notes=notes, value=value)


def _unknown(name: Name, text: str, found: Unknown) -> Step:
    return Step(name, "unsupported" if found.unsupported else "refused", text, found.reason)


def _rules(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    return list((found or {}).get("Rules", []))
