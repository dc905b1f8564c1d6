"""Credentials for one session, and the forms in which they are handed to a job.

The forms are for programs that trust their input: shells, the AWS libraries, GitHub's runner. So
values that could be more than a value never become credentials.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime

from longshore.errors import StoreError

_VALUE = re.compile(r"[!-~]{1,16384}", re.ASCII)  # visible, no spaces, no line breaks


@dataclass(frozen=True, slots=True)
class SessionCredentials:
    """What STS hands out. The secrets are in no `repr`, so that no log can get them that way.

    Raises:
        StoreError: a value is none that credentials have.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime

    def __post_init__(self) -> None:
        values = (self.access_key_id, self.secret_access_key, self.session_token)
        if not all(_VALUE.fullmatch(value) for value in values) or self.expires_at.tzinfo is None:
            raise StoreError("what STS answered are no credentials; check the STS endpoint")

    @property
    def expiration(self) -> str:
        """The end of the session, in ISO 8601 and UTC."""
        return f"{self.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

    @property
    def variables(self) -> dict[str, str]:
        """The variables that AWS libraries read, the three secrets first."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
            "AWS_CREDENTIAL_EXPIRATION": self.expiration,
        }


def shell_exports(credentials: SessionCredentials) -> str:
    """Write lines for a shell's `eval`."""
    return "\n".join(
        f"export {name}={shlex.quote(value)}" for name, value in credentials.variables.items()
    )


def process_document(credentials: SessionCredentials) -> str:
    """Write what the AWS libraries expect from a `credential_process`."""
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "SessionToken": credentials.session_token,
            "Expiration": credentials.expiration,
        },
        indent=2,
    )


def github_masks(credentials: SessionCredentials) -> str:
    """Write the commands that have GitHub's runner hide the secrets in its log.

    The runner reads them on the output of a step, and hides what comes after them.
    """
    secrets = (
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    )
    return "\n".join(f"::add-mask::{_command_data(secret)}" for secret in secrets)


def github_variables(credentials: SessionCredentials) -> str:
    """Write lines for the file that `GITHUB_ENV` names, for the steps that follow."""
    return "\n".join(f"{name}={value}" for name, value in credentials.variables.items())


def _command_data(value: str) -> str:
    return value.replace("%", "%25")  # line breaks would be escaped, too, but cannot be here
