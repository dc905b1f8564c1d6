"""Hand out credentials for one build: what `longshore credentials` does.

It runs outside the job, at a broker that knows which build asks. What the job says of itself, such
as its branch in git, must not widen the grant, so nothing is read from a working copy here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple, Protocol

from longshore.core.policy import (
    Grant,
    check_duration,
    check_role,
    check_session_name,
    session_name,
    session_policy_text,
)
from longshore.core.session_credentials import SessionCredentials


class AssumeRole(Protocol):
    """Asks STS, as `store/aws_sts.py` does."""

    async def __call__(
        self, *, role_arn: str, session_name: str, policy: str, duration: timedelta
    ) -> SessionCredentials: ...


class GrantedCredentials(NamedTuple):
    """What was granted, and to whom."""

    grant: Grant
    role_arn: str
    session_name: str
    policy: str
    """As STS is sent it."""
    credentials: SessionCredentials


async def grant_credentials(
    grant: Grant,
    role_arn: str,
    *,
    duration: timedelta,
    session: str | None = None,
    assume_role: AssumeRole,
) -> GrantedCredentials:
    """Have STS narrow a role to a grant, and return the credentials.

    Args:
        session: its name in the store's logs; made of project and scope if there is none.

    Raises:
        UsageError: the grant, or something about the session, is what STS does not take.
        StoreError: STS refused, or could not be asked.
    """
    check_role(role_arn)
    check_duration(duration)
    name = check_session_name(session or session_name(grant.project, grant.scope))
    policy = session_policy_text(grant)
    credentials = await assume_role(
        role_arn=role_arn, session_name=name, policy=policy, duration=duration
    )
    return GrantedCredentials(grant, role_arn, name, policy, credentials)
