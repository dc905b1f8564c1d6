"""What `setup` does with a job: bring a bucket in order, or print the roles of its store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from longshore import wiring
from longshore.cli_agreement import DECLINED, agree
from longshore.cli_job import Job, Shown
from longshore.config import ROLE_SESSION, UPLOAD_DAYS, Settings
from longshore.config_values import BucketLocation
from longshore.core.bucket_plan import Step, Wanted
from longshore.core.policy import Place
from longshore.core.roles import Role, broker_role, check_sizes, prune_role
from longshore.errors import UsageError
from longshore.output_json import plain
from longshore.output_setup import plan_lines, setup_text

if TYPE_CHECKING:
    from longshore.ops.setup import SetupResult

_NO_TLS_RULE = (
    "behind a proxy that ends TLS, such a server would refuse every request;"
    " have the server itself refuse plain HTTP"
)


async def setup(job: Job) -> Shown:
    """Bring a bucket in order; or write roles, if they are to be printed."""
    settings = job.settings
    location = _bucket_of(settings)
    if settings.print is not None:
        return _printed(settings, location)
    from longshore.ops.setup import set_up_bucket

    if any((settings.broker_arn, settings.prune_arn, settings.oidc_provider)):
        job.report.line("roles are made by you: see them with --print roles or --print terraform")
    with wiring.open_bucket(settings, location.bucket) as bucket:
        wanted = Wanted(
            Place(location.bucket, location.prefix, bucket.partition, settings.kms_key_arn),
            bucket.region_for_new,
            UPLOAD_DAYS,
            tls=bucket.is_aws,
            why_no_tls=_NO_TLS_RULE,
        )

        async def asked(plan: tuple[Step, ...]) -> bool:
            return await _agree(job, plan)

        result = await set_up_bucket(
            bucket, wanted, agree=None if settings.dry_run else asked, report=job.report
        )
    document = {
        "store": settings.store_url,
        "bucket": location.bucket,
        "dry_run": settings.dry_run,
        "steps": [_step_json(step, result) for step in result.plan],
    }
    return Shown(setup_text(result), document, DECLINED if result.agreed is False else 0)


async def _agree(job: Job, plan: tuple[Step, ...]) -> bool:
    changes = sum(step.writes for step in plan)
    return await agree(
        job,
        plan_lines(plan),
        nobody=(
            f"setup would change {changes} {'thing' if changes == 1 else 'things'} and has nobody"
            " to ask; look with --dry-run, then say --yes"
        ),
    )


def _step_json(step: Step, result: SetupResult) -> dict[str, Any]:
    document = plain(step)
    del document["value"]
    document["done"] = step.name in result.done
    document["problem"] = result.problems.get(step.name)
    return dict(document)


def _printed(settings: Settings, location: BucketLocation) -> Shown:
    roles = _roles(settings, location)
    if settings.print == "commands":
        from longshore.core.ceph_roles import admin_commands

        if settings.provider != "ceph":
            raise UsageError("only roles of --provider ceph are made by commands")
        commands = admin_commands(roles)
        return Shown("\n".join(commands), {"commands": commands})
    if settings.print == "terraform":
        from longshore.core.terraform import terraform

        if settings.provider == "ceph":
            raise UsageError("roles of --provider ceph are no Terraform; print commands")
        text = terraform(
            Wanted(_place(settings, location), settings.region, UPLOAD_DAYS),
            roles,
            provider=settings.oidc_provider,
            session_seconds=int(ROLE_SESSION.total_seconds()),
        )
        return Shown(text, {"terraform": text})
    document = {"roles": [plain(role) for role in roles]}
    return Shown(json.dumps(document, indent=2), document)


def _roles(settings: Settings, location: BucketLocation) -> tuple[Role, ...]:
    place = _place(settings, location)
    if settings.provider == "ceph":
        from longshore.core.ceph_roles import ceph_roles

        return ceph_roles(
            place,
            _required(settings, "project", "the project", "--project"),
            _required(settings, "broker_arn", "who takes the roles", "--broker-arn"),
            default_branch=_default_branch(settings),
            fallback=settings.fallback or (),
        )
    if not any((settings.broker_arn, settings.prune_arn, settings.oidc_provider)):
        raise UsageError("nobody is to take a role; name who, with --broker-arn or --oidc-provider")
    roles = [broker_role(place, settings.broker_arn)] if settings.broker_arn else []
    roles.append(prune_role(place, settings.prune_arn))
    roles += _jobs_roles(settings, place)
    return tuple(check_sizes(role) for role in roles)


def _jobs_roles(settings: Settings, place: Place) -> tuple[Role, ...]:
    from longshore.core.oidc_roles import oidc_roles
    from longshore.core.subjects import (
        Subjects,
        parse_issuer,
        parse_repository,
        subjects_of,
        with_given,
    )

    if settings.oidc_provider is None:
        return ()
    project = _required(settings, "project", "the project", "--project")
    branch = _default_branch(settings)
    service, subjects = None, Subjects({})
    if settings.repository is not None:
        service, name = parse_repository(settings.repository)
        subjects = subjects_of(service, name, branch)
    elif not settings.subject:
        raise UsageError("whose jobs take the roles? name the --repository, or each --subject")
    return oidc_roles(
        place,
        project,
        parse_issuer(settings.oidc_provider, settings.oidc_audience, service),
        with_given(subjects, settings.subject),
        default_branch=branch,
        fallback=settings.fallback or (),
    )


def _default_branch(settings: Settings) -> str:
    from longshore.core.subjects import check_default_branch

    flag = "--default-branch"
    return check_default_branch(_required(settings, "default_branch", "the default branch", flag))


def _place(settings: Settings, location: BucketLocation) -> Place:
    """Say where the store is, in the part of AWS that the given ARNs are in."""
    arns = (settings.kms_key_arn, settings.broker_arn, settings.oidc_provider, settings.prune_arn)
    partitions = {arn.split(":")[1] for arn in arns if arn and arn.startswith("arn:aws")}
    if len(partitions) > 1:
        raise UsageError(f"the ARNs are not of one partition: {', '.join(sorted(partitions))}")
    partition = next(iter(partitions), "aws")
    return Place(location.bucket, location.prefix, partition, settings.kms_key_arn)


def _required(settings: Settings, field: str, what: str, flag: str) -> str:
    found: str | None = getattr(settings, field)
    if found is None:
        raise UsageError(f"{what} is not known; give it with {flag}")
    return found


def _bucket_of(settings: Settings) -> BucketLocation:
    if not isinstance(settings.store, BucketLocation):
        raise UsageError("setup is for a bucket; name it with --store s3://bucket/prefix")
    return settings.store
