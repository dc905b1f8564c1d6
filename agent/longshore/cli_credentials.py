"""The command `credentials`: what is granted, and in which form it is handed on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from longshore.cli_job import Job, Shown, say
from longshore.config_options import Format
from longshore.config_values import BucketLocation
from longshore.core.policy import (
    Grant,
    Place,
    partition_of,
    session_name,
    session_policy_text,
)
from longshore.core.session_credentials import (
    SessionCredentials,
    github_masks,
    github_variables,
    process_document,
    shell_exports,
)
from longshore.errors import UsageError
from longshore.ops.credentials import GrantedCredentials, grant_credentials
from longshore.output_json import credentials_json

_FORMS: dict[Format, Callable[[SessionCredentials], str]] = {
    "env": shell_exports,
    "process": process_document,
    "github": lambda c: f"{github_masks(c)}\n{github_variables(c)}",
}


async def credentials(job: Job) -> Shown:
    """Hand out credentials for one scope, or print what they could do."""
    settings, world = job.settings, job.world
    form = settings.format_for("credentials")
    grant = _grant(job)
    if settings.print_policy:
        policy = session_policy_text(grant)
        name = settings.session_name or session_name(grant.project, grant.scope)
        document = credentials_json(grant, settings.role_arn, name, policy, None)
        return Shown(json.dumps(json.loads(policy), indent=2), document)
    if settings.role_arn is None:
        raise UsageError("credentials are those of a role, narrowed; name it with --role-arn")
    if world.stdout.isatty():
        raise UsageError(
            "credentials are nothing for a terminal; write granted=$(longshore credentials …) &&"
            ' eval "$granted", or append `| cat` if they are to be seen'
        )
    granted = await grant_credentials(
        grant,
        settings.role_arn,
        duration=settings.duration,
        session=settings.session_name,
        assume_role=world.open_sts(settings, world.environment.get("AWS_REGION") or None),
    )
    job.report.line(_until(granted))
    found = granted.credentials
    document = credentials_json(
        grant, granted.role_arn, granted.session_name, granted.policy, found
    )
    file = world.environment.get("GITHUB_ENV")
    if form == "github" and file and not settings.json:
        # In this order: nothing may use what is not hidden yet.
        say(job, github_masks(found))
        _append(world.directory / file, github_variables(found))
        return Shown("", document)
    return Shown("" if settings.json else _FORMS[form](found), document)


def _grant(job: Job) -> Grant:
    """Read the grant from settings alone: a working copy is not asked who is building."""
    settings = job.settings
    store = settings.store
    if store is None:
        raise UsageError("no store is set; name one with --store s3://bucket/prefix")
    if not isinstance(store, BucketLocation):
        raise UsageError("credentials are for a bucket; name it with --store s3://bucket/prefix")
    if settings.project is None or settings.scope is None:
        missing = "--scope" if settings.project else "--project"
        raise UsageError(f"credentials are for one scope of a project; name it with {missing}")
    partition = partition_of(settings.role_arn) if settings.role_arn else "aws"
    return Grant(
        Place(store.bucket, store.prefix, partition, settings.kms_key_arn),
        settings.project,
        settings.scope,
        settings.fallback or (),
        settings.read_only,
    )


def _until(granted: GrantedCredentials) -> str:
    grant = granted.grant
    what = "to read" if grant.read_only else "for"
    return (
        f"credentials {what} scope {grant.scope} of project {grant.project}, valid until"
        f" {granted.credentials.expiration}"
    )


def _append(path: Path, text: str) -> None:
    """Append lines to a file, to which others have written before."""
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(f"{text}\n".encode())
    except OSError as error:
        raise UsageError(
            f"GITHUB_ENV: {path} cannot be written: {error.strerror or error}"
        ) from error
