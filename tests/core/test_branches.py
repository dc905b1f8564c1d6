"""Lists of branches: what cannot be understood is an error, and so is nothing at all."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from longshore.core.branches import parse_branch_list, scope_of_ref, scopes_of_refs
from longshore.errors import UsageError

COMMIT = "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
names = st.from_regex(r"[A-Za-z0-9._/:~-][A-Za-z0-9._/:~#-]{0,30}", fullmatch=True).filter(
    lambda name: name not in (".", "..") and not name.startswith("refs/")
)


@given(st.lists(names, min_size=1))
def test_every_line_names_a_scope(wanted: list[str]) -> None:
    assert parse_branch_list("\n".join(wanted), "list") == set(wanted)


def test_comments_and_empty_lines_are_passed_over() -> None:
    text = "# of the release team\n\nmain\r\n  feature/x  # until May\n#all\npr:17\ntag:v1\n"

    assert parse_branch_list(text, "list") == {"main", "feature/x", "pr:17", "tag:v1"}


def test_a_branch_whose_name_looks_like_a_comment_can_be_named_in_full() -> None:
    assert parse_branch_list("refs/heads/#17-fix\nfix#2\n", "list") == {"#17-fix", "fix#2"}


def test_what_git_writes_is_a_list_too() -> None:
    text = (
        f"{COMMIT}\tHEAD\n{COMMIT}\trefs/heads/main\n{COMMIT}\trefs/pull/7/head\n"
        f"{COMMIT}\trefs/tags/v1\n{COMMIT}\trefs/tags/v1^{{}}\n"
    )

    assert parse_branch_list(text, "list") == {"main", "tag:v1"}
    assert scopes_of_refs(text, "git") == {"main", "tag:v1"}


@pytest.mark.parametrize("line", ["* main", "main  develop", "origin/HEAD -> origin/main"])
def test_a_line_that_is_not_one_name_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"list: line 2: .* is not the name of one scope"):
        parse_branch_list(f"main\n{line}\n", "list")


def test_a_name_that_no_scope_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used as a name"):
        parse_branch_list("main\n..\n", "list")


@pytest.mark.parametrize("text", ["", "\n \n", "# main\n#main\n", f"{COMMIT}\trefs/pull/7/head\n"])
def test_a_list_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="list names no scope, so none is taken to be gone"):
        parse_branch_list(text, "list")


@pytest.mark.parametrize("text", ["", f"{COMMIT}\trefs/tags/v1\n"])
def test_an_answer_of_git_without_a_branch_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="origin names no branch"):
        scopes_of_refs(text, "origin")


def test_only_branches_and_tags_have_scopes() -> None:
    assert scope_of_ref("refs/heads/a/b") == "a/b"
    assert scope_of_ref("refs/tags/v1") == "tag:v1"
    assert scope_of_ref("refs/remotes/origin/main") is None
