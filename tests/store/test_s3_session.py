"""A session that is quicker than the SDK's reads and says the same."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader, create_loader
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from longshore.store import s3_session
from longshore.store.s3_session import USER_AGENT, new_session, read_date, warm

DATES = st.integers(10**5, 7 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(DATES)
def test_dates_are_read_as_the_sdk_reads_them(date: datetime) -> None:
    for text in (format_datetime(date, usegmt=True), f"{date:%Y-%m-%dT%H:%M:%S}.000Z"):
        assert read_date(text) == parse_timestamp(text) == date
    assert read_date(date.isoformat()) == date


@pytest.mark.parametrize("odd", ["1700000000", 1700000000, 1700000000.5, "2026-11-26 08:00:00"])
def test_what_is_no_usual_date_is_left_to_the_sdk(odd: Any) -> None:
    assert read_date(odd) == parse_timestamp(odd)


def test_what_is_no_date_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        read_date("yesterday, I think")


def test_descriptions_are_those_that_the_sdk_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []
    read = s3_session._Files.load_file

    def noted(files: Any, path: str) -> Any:
        paths.append(path)
        return read(files, path)

    monkeypatch.setattr(s3_session._Files, "load_file", noted)
    loader = create_loader()
    loader.file_loader = s3_session._Files()
    loader.load_service_model("s3", "service-2")
    loader.load_service_model("s3", "endpoint-rule-set-1")
    loader.load_data("endpoints")
    for path in tuple(paths):
        assert read(s3_session._Files(), path) == JSONFileLoader().load_file(path)
    assert any(JSONFileLoader().load_file(path) for path in tuple(paths))


async def test_what_was_warmed_up_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    warm()

    def read(files: Any, path: str) -> Any:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(s3_session._Files, "load_file", read)
    made = new_session().create_client("s3", region_name="us-east-1", **s3_session._NOBODY)
    async with made as client:
        assert client.meta.service_model.service_name == "s3"


def test_a_session_that_was_made_before_is_given_once_and_never_for_a_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_session, "_ready", [])
    warm()
    (ready,) = s3_session._ready
    config = tmp_path / "config"
    config.write_text("[profile ci]\nregion = mars-north-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    named = new_session("ci")
    assert named is not ready
    assert named.get_config_variable("region") == "mars-north-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "mars-south-1")  # nothing was read in advance
    assert new_session() is ready
    assert ready.get_config_variable("region") == "mars-south-1"
    assert new_session() is not ready


def test_servers_are_told_who_asks() -> None:
    assert USER_AGENT.startswith("longshore/")
    assert " aiobotocore/" in USER_AGENT
