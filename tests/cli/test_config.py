"""Flags, variables, the configuration file, defaults: in that order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell

from longshore.config import GRACE, PRUNE_TIMEOUT, Settings, load_settings
from longshore.config_file import read_config_file
from longshore.config_options import OPTIONS, Option
from longshore.config_values import (
    BucketLocation,
    FolderLocation,
    check_endpoint,
    parse_duration,
    parse_grace,
    parse_period,
    parse_share,
    parse_size,
    parse_store,
)
from longshore.errors import UsageError
from longshore.ops import prune_run


def load(
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    file: dict[str, object] | None = None,
) -> Settings:
    return load_settings(flags or {}, environment or {}, file or {}, "longshore.toml")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("12B", 12),
        ("1kB", 1000),
        ("1GB", 10**9),
        ("256MiB", 256 << 20),
        ("1.5GiB", 3 << 29),
        ("512m", 512 << 20),
        (" 2 MiB ", 2 << 20),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1XB", "1 2", "1e9", "٣", "1MiB1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="256MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("1h30m", 5400),
        ("90", 90),
        ("0.5s", 0.5),
        ("7d", 604800),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "-5s", "1y", "5 s 3x", "inf", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "8d", "99999999999999999999h"])
def test_wait_without_an_end_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="out of range"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://bucket", BucketLocation("bucket", "")),
        ("s3://bucket/a/b/", BucketLocation("bucket", "a/b/")),
        ("S3://Bucket_1/x", BucketLocation("Bucket_1", "x")),
        ("file:///var/cache", FolderLocation(Path("/var/cache"))),
        ("file:///a%20b#1?", FolderLocation(Path("/a b#1?"))),
        ("file://localhost/x", FolderLocation(Path("/x"))),
    ],
)
def test_store_is_read(url: str, location: object) -> None:
    assert parse_store(url) == location


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("/var/cache", "file:///dir"),
        ("bucket", "s3://bucket/prefix"),
        ("https://bucket", "s3://bucket/prefix"),
        ("s3://", "bucket's name"),
        ("s3:///x", "bucket's name"),
        ("s3://bucket/a*b", "may not hold"),
        ("s3://bucket/a?b", "may not hold"),
        ("s3://bucket/a\x1bb", "control characters"),
        ("file://x/y", "full path"),
        ("file://dir", "full path"),
        ("file:///a%00b", "NUL"),
    ],
)
def test_what_is_no_store_is_refused_with_advice(url: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice.replace("?", r"\?")):
        parse_store(url)


def test_credentials_in_urls_are_refused_and_not_repeated() -> None:
    for parse, url in (
        (parse_store, "s3://AKIA:hunter2@bucket/x"),
        (check_endpoint, "https://AKIA:hunter2@s3.example.com"),
    ):
        with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID") as refused:
            parse(url)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["s3.example.com", "ftp://x", "https://", "https://x:99999", "https://x/?a"]
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"https://s3\.example\.com"):
        check_endpoint(url)


def test_flag_goes_before_variable_before_file_before_default() -> None:
    everywhere = load({"level": "9"}, {"LONGSHORE_LEVEL": "8"}, {"level": 7})
    no_flag = load({}, {"LONGSHORE_LEVEL": "8"}, {"level": 7})
    only_file = load({}, {}, {"level": 7})

    assert (everywhere.level, everywhere.sources["level"]) == (9, "--level")
    assert (no_flag.level, no_flag.sources["level"]) == (8, "LONGSHORE_LEVEL")
    assert (only_file.level, only_file.sources["level"]) == (7, "longshore.toml: level")
    assert load().level == "auto"
    assert "level" not in load().sources
    taken_back = load({"level": "auto"}, {"LONGSHORE_LEVEL": "8"}, {"level": 7})
    assert (taken_back.level, taken_back.sources["level"]) == ("auto", "--level")


@pytest.mark.parametrize("level", ["auto", "1", "19"])
def test_a_level_can_be_given_in_all_three_ways(level: str) -> None:
    wanted = level if level == "auto" else int(level)

    for settings in (
        load({"level": level}),
        load({}, {"LONGSHORE_LEVEL": level}),
        load({}, {}, {"level": level}),
        load({}, {}, {"level": wanted}),
        load({"level": wanted}),  # as a sidecar is told
    ):
        assert settings.level == wanted


def test_empty_variable_counts_as_not_set() -> None:
    assert load({}, {"LONGSHORE_LEVEL": " ", "LONGSHORE_STORE": ""}, {"level": 7}).level == 7


def test_defaults_are_those_that_are_documented() -> None:
    settings = load()

    assert settings.level == "auto"
    assert settings.memory_bytes == 256 << 20
    assert settings.max_image_bytes == 50 * 1000**3
    assert settings.concurrency == 8
    assert settings.timeout == timedelta(hours=1)
    assert settings.parents
    assert not settings.strict
    assert settings.fallback is None


def test_lists_in_variables_are_split_at_spaces_only() -> None:
    settings = load(
        {}, {"LONGSHORE_FALLBACK": " develop  a,b ", "LONGSHORE_IMAGE": "web=x:1 api=y:1"}
    )

    assert settings.fallback == ("develop", "a,b")
    assert settings.image == ("web=x:1", "api=y:1")


def test_no_fallback_at_all_can_be_said_in_the_file() -> None:
    assert load({}, {}, {"fallback": []}).fallback == ()


def test_numbers_in_the_file_may_stand_for_bytes_and_seconds() -> None:
    settings = load({}, {}, {"memory": 512 << 20, "timeout": 90})

    assert (settings.memory_bytes, settings.timeout) == (512 << 20, timedelta(seconds=90))


def test_flag_takes_back_a_switch() -> None:
    assert load({"strict": False}, {"LONGSHORE_STRICT": "1"}).strict is False
    assert load({"parents": True}, {"LONGSHORE_PARENTS": "0"}).parents is True


@pytest.mark.parametrize(
    ("environment", "file", "message"),
    [
        ({"LONGSHORE_LEVEL": "20"}, {}, "LONGSHORE_LEVEL: expected auto, or a whole number from 1"),
        ({"LONGSHORE_LEVEL": "-1"}, {}, "a whole number from 1 to 19; found '-1'"),
        ({"LONGSHORE_LEVEL": "AUTO"}, {}, "expected auto, or a whole number"),
        ({"LONGSHORE_LEVEL": "three"}, {}, "found 'three'"),
        ({"LONGSHORE_STRICT": "maybe"}, {}, "LONGSHORE_STRICT: 'maybe' is neither true nor false"),
        ({"LONGSHORE_MEMORY": "100MiB"}, {}, "LONGSHORE_MEMORY: '100MiB' is too little"),
        ({"LONGSHORE_MAX_IMAGE_SIZE": "0"}, {}, "LONGSHORE_MAX_IMAGE_SIZE: no image fits"),
        ({"LONGSHORE_CONCURRENCY": "0"}, {}, "from 1 to 256"),
        ({"LONGSHORE_PROJECT": ".."}, {}, "LONGSHORE_PROJECT: '..' cannot be used"),
        ({}, {"level": "x"}, "longshore.toml: level: expected auto, or a whole number"),
        ({}, {"level": 0}, "longshore.toml: level: expected auto, or a whole number"),
        ({}, {"level": 3.5}, "a text or a whole number, found the number 3.5"),
        ({}, {"level": True}, "found a truth value"),
        ({}, {"concurrency": "x"}, "longshore.toml: concurrency: expected a whole number"),
        ({}, {"concurrency": True}, "found a truth value"),
        ({}, {"strict": "yes"}, "longshore.toml: strict: expected true or false, found 'yes'"),
        ({}, {"store": 5}, "longshore.toml: store: expected a text, found the number 5"),
        ({}, {"fallback": [1]}, "longshore.toml: fallback: expected a list of texts, found a list"),
        ({}, {"timeout": {}}, "longshore.toml: timeout: expected a text or a whole number, found"),
        ({}, {"lavel": 3}, "longshore.toml: unknown key 'lavel'; known are store, endpoint-url"),
    ],
)
def test_wrong_value_is_refused_by_the_name_of_who_gave_it(
    environment: dict[str, str], file: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        load({}, environment, file)

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_option_can_be_set_in_all_three_ways() -> None:
    samples = {
        "store": "s3://bucket/p",
        "endpoint-url": "https://s3.example.com",
        "level": "5",
        "memory": "512MiB",
        "max-image-size": "1GB",
        "concurrency": "3",
        "timeout": "5m",
        "format": "compose",
        "duration": "30m",
        "role-arn": "arn:aws:iam::123456789012:role/builder",
        "kms-key": "arn:aws:kms:eu-west-1:123456789012:key/1234abcd",
        "sts-endpoint-url": "https://sts.example.com",
        "keep-last": "2",
        "keep-within": "336h",
        "max-size": "3GiB",
        "gone-after": "720h",
        "repack-below": "25%",
        "read-data": "25%",
        "grace": "25h",
        "print": "roles",
        "provider": "ceph",
        "broker-arn": "arn:aws:iam::123456789012:role/broker",
        "prune-arn": "arn:aws:iam::123456789012:role/cron",
        "sse": "aws:kms",
        "listen": "127.0.0.1:8080",
        "ready-timeout": "1m",
        "shutdown-timeout": "1m",
        "log-format": "json",
    }
    for option in OPTIONS:
        other = not option.on
        text = str(other).lower() if option.kind == "switch" else samples.get(option.name, "name")
        by_file: object = other if option.kind == "switch" else text
        for settings in (
            load({option.name: other if option.kind == "switch" else text}),
            load({}, {option.variable: text}),
            load({}, {}, {option.name: by_file}),
        ):
            assert option.name in settings.sources
            assert getattr(settings, _attribute(option)) != getattr(load(), _attribute(option))


def _attribute(option: Option) -> str:
    fields = {"memory": "memory_bytes", "max-image-size": "max_image_bytes"}
    return fields.get(option.name, option.parameter)


def test_memory_is_split_by_the_documented_arithmetic() -> None:
    settings = load({"memory": "256MiB"})
    least = load({"memory": "208MiB"})
    much = load({"memory": "2GiB", "concurrency": "64"})

    assert settings.window_bytes == (256 - 100 - 40) << 20
    assert settings.export_document_bytes == 48 << 20
    assert settings.document_bytes == (256 - 100 - 40 - 32) << 20
    assert settings.parts_at_once(8 << 20) == 4
    assert least.document_bytes == 36 << 20
    assert least.window_bytes == (208 - 100 - 40) << 20
    assert least.parts_at_once(8 << 20) == 1
    assert much.parts_at_once(8 << 20) == 64


def test_files_are_found_and_the_first_one_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.longshore]\nlevel = 5\n[tool.other]\nx = 1\n")
    shared = read_config_file(tmp_path, None)
    (tmp_path / "longshore.toml").write_text("level = 6\nendpoint_url = 'https://x'\n")
    own = read_config_file(tmp_path, None)
    (tmp_path / "ci.toml").write_text("[tool.longshore]\nlevel = 7\n")
    given = read_config_file(tmp_path, "ci.toml")

    assert (shared.name, shared.values) == ("pyproject.toml", {"level": 5})
    assert own.values == {"level": 6, "endpoint-url": "https://x"}
    assert (given.name, given.values) == ("ci.toml", {"level": 7})


def test_pyproject_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("this is not TOML, and none of ours")

    assert read_config_file(tmp_path, None).values == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level = ", "it is not TOML"),
        ("tool.longshore = 5", "not a table"),
        ("level = 3\n[tool.longshore]\nlevel = 4", "keep one"),
        ("endpoint-url = 'a'\nendpoint_url = 'b'", "there twice"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "longshore.toml").write_text(text)

    with pytest.raises(UsageError, match=f"longshore.toml: .*{message}"):
        read_config_file(tmp_path, None)


def test_file_that_was_named_must_be_there(shell: Shell) -> None:
    assert shell("list", "--config", "nowhere.toml") == 2
    assert shell.err == "error: nowhere.toml: No such file or directory\n"


def test_config_shows_values_and_who_gave_them(shell: Shell) -> None:
    shell.write("longshore.toml", "level = 9\nfallback = ['main', 'develop']\n")
    shell.environment["LONGSHORE_MEMORY"] = "300MB"

    document = shell.json("config", "--concurrency", "4")

    options = {o["name"]: (o["value"], o["source"]) for o in document["options"]}
    assert list(options) == [option.name for option in OPTIONS]
    assert options["level"] == (9, "longshore.toml: level")
    assert options["memory"] == ("300MB", "LONGSHORE_MEMORY")
    assert options["concurrency"] == (4, "--concurrency")
    assert options["project"] == ("shop", "compose.yaml")
    assert options["scope"] == ("main", "LONGSHORE_SCOPE")
    assert options["fallback"] == (["develop"], "longshore.toml: fallback")
    assert options["timeout"] == ("1h", "default")


def test_config_shows_no_secrets(shell: Shell) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        shell.environment[name] = "hunter2"

    for arguments in (["config"], ["config", "--json"], ["doctor"], ["list", "-v"]):
        shell(*arguments)
        assert "hunter2" not in shell.out + shell.err


@pytest.mark.parametrize(
    ("text", "hours"), [("24h", 24), ("14d", 336), ("2w", 336), ("1d12h", 36), ("400d", 9600)]
)
def test_period_is_read(text: str, hours: float) -> None:
    assert parse_period(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["30", " 7.5 ", "0", "1 2"])
def test_period_without_a_unit_is_refused_for_it_would_be_seconds(text: str) -> None:
    with pytest.raises(UsageError, match=r"has no unit; write it like 24h, 30d or 2w"):
        parse_period(text)


@pytest.mark.parametrize("text", ["0d", "3651d", "99999999999999999999999d"])
def test_period_that_is_nothing_or_longer_than_ten_years_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="out of range"):
        parse_period(text)


def test_only_a_grace_period_may_be_nothing() -> None:
    assert parse_grace("0") == parse_grace("0s") == timedelta()
    assert parse_grace("36h") == timedelta(hours=36)
    with pytest.raises(UsageError, match="no unit"):
        parse_grace("24")


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0", 0), ("0%", 0), (" 12.5 %", 0.125)])
def test_share_is_read(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "50", "0.5", "-1%", "101%", "half", "1e1%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="share"):
        parse_share(text)


def test_the_default_grace_period_is_the_one_that_writers_count_on() -> None:
    assert load().grace == GRACE == prune_run.GRACE
    assert PRUNE_TIMEOUT == GRACE / 4
    assert (load().keep_last, load().repack_below) == (1, 0.5)
