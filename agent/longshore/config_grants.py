"""Values that get into policies and roles; what checks them is imported if they are given.

Few commands take them, and those that hand their work to a sidecar are to start in no time.
"""

from __future__ import annotations

from datetime import timedelta

from longshore.config_values import parse_duration


def parse_session(text: str) -> timedelta:
    """Read how long credentials last."""
    from longshore.core.policy import check_duration

    return check_duration(parse_duration(text))


def check_role(text: str) -> str:
    """Make sure that a text is the ARN of a role."""
    from longshore.core.policy import check_role

    return check_role(text)


def check_session_name(text: str) -> str:
    """Make sure that STS takes a name for a session."""
    from longshore.core.policy import check_session_name

    return check_session_name(text)


def check_principal(text: str) -> str:
    """Make sure that a text is the ARN of a user or role."""
    from longshore.core.roles import check_principal

    return check_principal(text)


def check_key_arn(text: str) -> str:
    """Make sure that a text is the ARN of a KMS key."""
    from longshore.core.policy import check_kms_key

    return check_kms_key(text)
