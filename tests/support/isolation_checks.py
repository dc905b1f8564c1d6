"""What a session must not be able to do: a table of attempts, each of which has to be refused.

What is expected is what AWS does. Where a server is known to allow more, its test names the check
and the reason, so that nothing is left out silently.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.isolation import (
    OWN_PREFIX,
    PROJECT,
    ROOT,
    Attack,
    Check,
    Refused,
    Target,
    policy_for_all,
)

Attempt = Callable[[Attack, Target], object]
EVIL = b"evil"

# Servers refuse names with dots in them in their own ways; what matters is what they do not do.
ODD = frozenset({400, 403, 404})
# A server that does not know an operation does not do it either.
ADMINISTRATION = frozenset({403, 405, 501})


def _read(body: Any) -> bytes:
    with body:
        data: bytes = body.read()
    return data


def _get(a: Attack, key: str, **more: Any) -> bytes:
    return _read(a.client.get_object(Bucket=a.bucket, Key=key, **more)["Body"])


def _source(a: Attack, key: str) -> dict[str, str]:
    return {"Bucket": a.bucket, "Key": key}


def _presigned(a: Attack, operation: str, key: str) -> str:
    url: str = a.client.generate_presigned_url(operation, {"Bucket": a.bucket, "Key": key})
    return url


def _posted(a: Attack, key: str) -> bytes:
    """Upload through the form that a browser would post."""
    form = a.client.generate_presigned_post(a.bucket, key)
    boundary = uuid.uuid4().hex
    fields = [*form["fields"].items(), ("file", EVIL.decode())]
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        f"{'; filename=x' if name == 'file' else ''}\r\n\r\n{value}\r\n"
        for name, value in fields
    )
    kind = f"multipart/form-data; boundary={boundary}"
    return a.fetch(
        "POST", form["url"], f"{body}--{boundary}--\r\n".encode(), **{"Content-Type": kind}
    )


def _batch_delete(a: Attack, *keys: str) -> None:
    """Delete in one request; what the answer calls an error was refused."""
    objects = [{"Key": key} for key in keys]
    answer = a.client.delete_objects(Bucket=a.bucket, Delete={"Objects": objects})
    refused = {item["Key"]: item["Code"] for item in answer.get("Errors", ())}
    if refused.keys() >= set(keys):
        raise Refused(403, next(iter(refused.values())))


READS: dict[str, Attempt] = {
    "get": lambda a, t: _get(a, t.key),
    "get a range": lambda a, t: _get(a, t.key, Range="bytes=0-1"),
    "get if it changed": lambda a, t: _get(a, t.key, IfNoneMatch='"0"'),
    "head": lambda a, t: a.client.head_object(Bucket=a.bucket, Key=t.key),
    "get what is missing": lambda a, t: _get(a, t.missing),
    "head what is missing": lambda a, t: a.client.head_object(Bucket=a.bucket, Key=t.missing),
    "get presigned": lambda a, t: a.fetch("GET", _presigned(a, "get_object", t.key)),
    "head presigned": lambda a, t: a.fetch("HEAD", _presigned(a, "head_object", t.key)),
    "list": lambda a, t: a.client.list_objects_v2(Bucket=a.bucket, Prefix=t.prefix),
    "list as of old": lambda a, t: a.client.list_objects(Bucket=a.bucket, Prefix=t.prefix),
    "list folders": lambda a, t: a.client.list_objects_v2(
        Bucket=a.bucket, Prefix=t.prefix, Delimiter="/"
    ),
    "list deeper": lambda a, t: a.client.list_objects_v2(
        Bucket=a.bucket, Prefix=f"{t.prefix}packs/"
    ),
    "list from a key on": lambda a, t: a.client.list_objects_v2(
        Bucket=a.bucket, Prefix=t.prefix, StartAfter=t.prefix
    ),
    "list presigned": lambda a, t: a.fetch(
        "GET",
        a.client.generate_presigned_url(
            "list_objects_v2", {"Bucket": a.bucket, "Prefix": t.prefix}
        ),
    ),
    "copy out": lambda a, t: a.client.copy_object(
        Bucket=a.bucket, Key=f"{OWN_PREFIX}packs/stolen", CopySource=_source(a, t.key)
    ),
    "copy out by parts": lambda a, t: a.client.upload_part_copy(
        Bucket=a.bucket,
        Key=a.stage.own.open_key,
        UploadId=a.stage.own.upload_id,
        PartNumber=2,
        CopySource=_source(a, t.key),
    ),
}
"""What the fallback scope allows, and no other."""

LOOKS: dict[str, Attempt] = {
    "list versions": lambda a, t: a.client.list_object_versions(Bucket=a.bucket, Prefix=t.prefix),
    "list uploads": lambda a, t: a.client.list_multipart_uploads(Bucket=a.bucket, Prefix=t.prefix),
    "list parts": lambda a, t: a.client.list_parts(
        Bucket=a.bucket, Key=t.open_key, UploadId=t.upload_id
    ),
    "get tags": lambda a, t: a.client.get_object_tagging(Bucket=a.bucket, Key=t.key),
    "get the access list": lambda a, t: a.client.get_object_acl(Bucket=a.bucket, Key=t.key),
}
"""What no scope allows, the own one included."""

WRITES: dict[str, Attempt] = {
    "put": lambda a, t: a.client.put_object(Bucket=a.bucket, Key=t.missing, Body=EVIL),
    "overwrite": lambda a, t: a.client.put_object(Bucket=a.bucket, Key=t.key, Body=EVIL),
    "put if there is none": lambda a, t: a.client.put_object(
        Bucket=a.bucket, Key=t.missing, Body=EVIL, IfNoneMatch="*"
    ),
    "put nothing": lambda a, t: a.client.put_object(Bucket=a.bucket, Key=t.key, Body=b""),
    "put a folder": lambda a, t: a.client.put_object(
        Bucket=a.bucket, Key=f"{t.prefix}evil/", Body=b""
    ),
    "put presigned": lambda a, t: a.fetch("PUT", _presigned(a, "put_object", t.missing), EVIL),
    "overwrite presigned": lambda a, t: a.fetch("PUT", _presigned(a, "put_object", t.key), EVIL),
    "post a form": lambda a, t: _posted(a, t.missing),
    "copy in": lambda a, t: a.client.copy_object(
        Bucket=a.bucket, Key=t.key, CopySource=_source(a, a.stage.own.key)
    ),
    "copy onto itself": lambda a, t: a.client.copy_object(
        Bucket=a.bucket,
        Key=t.key,
        CopySource=_source(a, t.key),
        Metadata={"evil": "yes"},
        MetadataDirective="REPLACE",
    ),
    "create an upload": lambda a, t: a.client.create_multipart_upload(
        Bucket=a.bucket, Key=t.missing
    ),
    "upload a part": lambda a, t: a.client.upload_part(
        Bucket=a.bucket, Key=t.open_key, UploadId=t.upload_id, PartNumber=1, Body=EVIL
    ),
    "upload another part": lambda a, t: a.client.upload_part(
        Bucket=a.bucket, Key=t.open_key, UploadId=t.upload_id, PartNumber=2, Body=EVIL
    ),
    "upload a part presigned": lambda a, t: a.fetch(
        "PUT",
        a.client.generate_presigned_url(
            "upload_part",
            {
                "Bucket": a.bucket,
                "Key": t.open_key,
                "UploadId": t.upload_id,
                "PartNumber": 1,
            },
        ),
        EVIL,
    ),
    "copy in by parts": lambda a, t: a.client.upload_part_copy(
        Bucket=a.bucket,
        Key=t.open_key,
        UploadId=t.upload_id,
        PartNumber=2,
        CopySource=_source(a, a.stage.own.key),
    ),
    "complete an upload": lambda a, t: a.client.complete_multipart_upload(
        Bucket=a.bucket,
        Key=t.open_key,
        UploadId=t.upload_id,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": t.etag}]},
    ),
    "abort an upload": lambda a, t: a.client.abort_multipart_upload(
        Bucket=a.bucket, Key=t.open_key, UploadId=t.upload_id
    ),
}
"""What the own scope allows, unless the session is read-only."""

DAMAGE: dict[str, Attempt] = {
    "delete": lambda a, t: a.client.delete_object(Bucket=a.bucket, Key=t.key),
    "delete presigned": lambda a, t: a.fetch("DELETE", _presigned(a, "delete_object", t.key)),
    "delete what is missing": lambda a, t: a.client.delete_object(Bucket=a.bucket, Key=t.missing),
    "delete a batch": lambda a, t: _batch_delete(a, t.key),
    "delete a batch with one of one's own": lambda a, t: _batch_delete(a, a.stage.own.key, t.key),
    "put tags": lambda a, t: a.client.put_object_tagging(
        Bucket=a.bucket, Key=t.key, Tagging={"TagSet": [{"Key": "evil", "Value": "yes"}]}
    ),
    "delete tags": lambda a, t: a.client.delete_object_tagging(Bucket=a.bucket, Key=t.key),
    "put the access list": lambda a, t: a.client.put_object_acl(
        Bucket=a.bucket, Key=t.key, ACL="public-read"
    ),
    "put with tags": lambda a, t: a.client.put_object(
        Bucket=a.bucket, Key=t.missing, Body=EVIL, Tagging="evil=yes"
    ),
    "put that everybody may read": lambda a, t: a.client.put_object(
        Bucket=a.bucket, Key=t.missing, Body=EVIL, ACL="public-read"
    ),
}
"""What no scope allows, the own one included."""

BUCKET: dict[str, Callable[[Attack], object]] = {
    "list uploads of all": lambda a: a.client.list_multipart_uploads(Bucket=a.bucket),
    "list versions of all": lambda a: a.client.list_object_versions(Bucket=a.bucket),
    "get the bucket's policy": lambda a: a.client.get_bucket_policy(Bucket=a.bucket),
    "put the bucket's policy": lambda a: a.client.put_bucket_policy(
        Bucket=a.bucket, Policy=policy_for_all(a.bucket)
    ),
    "delete the bucket's policy": lambda a: a.client.delete_bucket_policy(Bucket=a.bucket),
    "get the lifecycle": lambda a: a.client.get_bucket_lifecycle_configuration(Bucket=a.bucket),
    "put a lifecycle": lambda a: a.client.put_bucket_lifecycle_configuration(
        Bucket=a.bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "evil",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "Expiration": {"Days": 1},
                }
            ]
        },
    ),
    "delete the lifecycle": lambda a: a.client.delete_bucket_lifecycle(Bucket=a.bucket),
    "get the bucket's access list": lambda a: a.client.get_bucket_acl(Bucket=a.bucket),
    "put the bucket's access list": lambda a: a.client.put_bucket_acl(
        Bucket=a.bucket, ACL="public-read"
    ),
    "put versioning": lambda a: a.client.put_bucket_versioning(
        Bucket=a.bucket, VersioningConfiguration={"Status": "Enabled"}
    ),
    "put encryption": lambda a: a.client.put_bucket_encryption(
        Bucket=a.bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    ),
    "put cross-origin rules": lambda a: a.client.put_bucket_cors(
        Bucket=a.bucket,
        CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
    ),
    "delete the block on public access": lambda a: a.client.delete_public_access_block(
        Bucket=a.bucket
    ),
    "create a bucket": lambda a: a.client.create_bucket(Bucket=f"evil-{uuid.uuid4().hex[:12]}"),
    "delete the bucket": lambda a: a.client.delete_bucket(Bucket=a.bucket),
}


def _list(prefix: str | None, **more: Any) -> Callable[[Attack], object]:
    arguments = more if prefix is None else {"Prefix": prefix, **more}
    return lambda a: a.client.list_objects_v2(Bucket=a.bucket, **arguments)


def _list_of_old(prefix: str | None) -> Callable[[Attack], object]:
    arguments = {} if prefix is None else {"Prefix": prefix}
    return lambda a: a.client.list_objects(Bucket=a.bucket, **arguments)


ABOVE: dict[str, Callable[[Attack], object]] = {
    "list without a prefix": _list(None),
    "list without a prefix as of old": _list_of_old(None),
    "list an empty prefix": _list(""),
    "list folders at the top": _list(None, Delimiter="/"),
    "list the root": _list(f"{ROOT}/"),
    "list the projects": _list(f"{ROOT}/", Delimiter="/"),
    "list the project": _list(f"{ROOT}/{PROJECT}/"),
    "list the scopes": _list(f"{ROOT}/{PROJECT}/scopes/", Delimiter="/"),
    "list the scopes as of old": _list_of_old(f"{ROOT}/{PROJECT}/scopes/"),
    "list the own scope without its slash": _list(OWN_PREFIX.removesuffix("/")),
    "list half of the own scope's name": _list(OWN_PREFIX[:-3]),
    "list what the prefix would match": _list(f"{ROOT}/{PROJECT}/scopes/*"),
}


def _bytes_of(path: str, data: Callable[[Attack], bytes]) -> Callable[[Attack], object]:
    """Read by a path; an answer that does not hold the foreign bytes is a refusal."""

    def attempt(a: Attack) -> object:
        if data(a) not in a.signed("GET", path):
            raise Refused(404, "SomethingElse")
        return None

    return attempt


def _tricks() -> Iterator[Check]:
    """Paths that lead out of the own scope, if somebody were to follow the dots."""
    for there, name in (
        ("another pull request", "../pr-2/packs"),
        ("another project", "../../../acme/scopes/main/packs"),
        ("the fallback scope", "../main/packs"),
    ):
        for how, way in (
            ("dots", name),
            ("dots behind a dot", f"./{name}"),
            ("dots behind a slash", f"/{name}"),
            ("encoded slashes", name.replace("/", "%2f")),
            ("encoded dots", name.replace("..", "%2e%2e")),
            ("dots encoded twice", name.replace("..", "%252e%252e")),
            ("backslashes", name.replace("/", "%5c")),
        ):
            if there != "the fallback scope":
                yield Check(
                    f"get {there} by {how}",
                    lambda a, there=there, way=way: _bytes_of(  # type: ignore[misc]
                        _at(a, there, way), lambda a: a.stage.foreign[there].data
                    )(a),
                    ODD,
                )
            yield Check(
                f"put {there} by {how}",
                lambda a, there=there, way=way: _planted(a, there, way),  # type: ignore[misc]
                ODD,
            )


def _at(a: Attack, there: str, way: str) -> str:
    return f"{OWN_PREFIX}{way}/{a.stage.foreign[there].key.rsplit('/', 1)[1]}"


def _planted(a: Attack, there: str, way: str) -> None:
    """Overwrite by a path; that the server takes it counts only if it went there."""
    target = a.stage.foreign[there]
    a.signed("PUT", _at(a, there, way), EVIL)
    answer = a.stage.admin.get_object(Bucket=a.bucket, Key=target.key)
    if _read(answer["Body"]) == target.data:
        raise Refused(404, "SomewhereElse")


def _by_target(group: dict[str, Attempt], where: str) -> Iterator[Check]:
    for name, attempt in group.items():
        yield Check(
            f"{name}: {where}",
            lambda a, attempt=attempt: attempt(a, _target_of(a, where)),  # type: ignore[misc]
        )


def _target_of(a: Attack, where: str) -> Target:
    return a.stage.own if where == OWN else a.stage.foreign[where]


def _buckets(a: Attack) -> None:
    if not a.client.list_buckets()["Buckets"]:
        raise Refused(403, "NoneListed")


OWN = "the own scope"


_NOT_EVEN_OWN = {
    "get what is missing",  # 403 or 404, as the server likes
    "head what is missing",
    "put if there is none",  # there is one by then
    "copy in",  # onto itself
    "complete an upload",  # its part has changed by then
}


def permitted(*, read_only: bool) -> tuple[Check, ...]:
    """List what a session must be able to do, or its being refused all the rest proves nothing."""
    reads = {name: attempt for name, attempt in READS.items() if not name.startswith("copy")}
    groups = [(reads if read_only else READS, "the fallback scope"), (reads, OWN)]
    if not read_only:
        groups.append((WRITES, OWN))
    return tuple(
        check
        for group, where in groups
        for check in _by_target({n: a for n, a in group.items() if n not in _NOT_EVEN_OWN}, where)
    )


def forbidden(foreign: list[str], *, read_only: bool) -> tuple[Check, ...]:
    """List what a session must not do.

    Args:
        foreign: names of targets of the stage; of these the fallback scope may be read.
    """
    checks: list[Check] = []
    for where in foreign:
        groups = [LOOKS, WRITES, DAMAGE]
        if where != "the fallback scope":
            groups.insert(0, READS)
        checks += (check for group in groups for check in _by_target(group, where))
    own = [LOOKS, DAMAGE, WRITES] if read_only else [LOOKS, DAMAGE]
    checks += (check for group in own for check in _by_target(group, OWN))
    checks += (Check(name, attempt) for name, attempt in ABOVE.items())
    checks += (Check(name, attempt, ADMINISTRATION) for name, attempt in BUCKET.items())
    checks.append(Check("list buckets", _buckets))
    checks += _tricks()
    return tuple(checks)
