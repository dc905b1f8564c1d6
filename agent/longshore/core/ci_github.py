"""What GitHub Actions says about a build, by variables and by the event's file."""

from __future__ import annotations

import json
import re

from longshore.core.ci_build import Build, Environment, branch_of, number_of, short_branch, tag_of


def read_github(env: Environment, event_text: str | None) -> Build:
    """Read GitHub Actions.

    `GITHUB_REF` names the pull request for `pull_request` only. `pull_request_target`, comments
    on a pull request and `workflow_run` name the base branch there, although such workflows
    check out what the pull request brings: the event tells.
    """
    event = _parse_event(event_text)
    name, ref = env.get("GITHUB_EVENT_NAME", ""), env.get("GITHUB_REF")
    pull = re.fullmatch(r"refs/pull/([0-9]+)/.*", ref or "")
    number = pull[1] if pull else _dig(event, "pull_request", "number")
    is_pull_request = bool(pull or number) or name.startswith("pull_request")
    is_pull_request = is_pull_request or "GITHUB_BASE_REF" in env
    if name == "issue_comment" and _holds(event, "issue", "pull_request"):
        number, is_pull_request = _dig(event, "issue", "number"), True
    if (_dig(event, "workflow_run", "event") or "").startswith("pull_request"):
        # The list is empty for forks; then the number stays unknown, and with it the scope.
        number, is_pull_request = _first_pull_request(event), True
    target = env.get("GITHUB_BASE_REF") or _dig(event, "pull_request", "base", "ref")
    target = target or _dig(event, "merge_group", "base_ref")
    head = env.get("GITHUB_HEAD_REF") or _dig(event, "pull_request", "head", "ref")
    run = [env.get(f"GITHUB_{part}") for part in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return Build(
        "GitHub Actions",
        is_pull_request=is_pull_request,
        number=number_of(number),
        target=short_branch(target),
        tag=tag_of(ref),
        branch=head if is_pull_request else branch_of(ref),
        default_branch=_dig(event, "repository", "default_branch"),
        revision=env.get("GITHUB_SHA"),
        job_url=f"{run[0]}/{run[1]}/actions/runs/{run[2]}" if all(run) else None,
    )


def _holds(event: object, outer: str, inner: str) -> bool:
    found = event.get(outer) if isinstance(event, dict) else None
    return isinstance(found, dict) and bool(found.get(inner))


def _first_pull_request(event: object) -> str | None:
    run = event.get("workflow_run") if isinstance(event, dict) else None
    pulls = run.get("pull_requests") if isinstance(run, dict) else None
    return _dig(pulls[0], "number") if isinstance(pulls, list) and pulls else None


def _parse_event(text: str | None) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _dig(document: object, *path: str) -> str | None:
    """Return a text or number out of nested objects."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, bool) or not isinstance(document, str | int):
        return None
    return str(document) or None
