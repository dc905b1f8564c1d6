"""Variables are replaced, and `.env` files read, as Docker Compose does it.

The cases are those of compose-go's own tests (template_test.go, godotenv_test.go), and the ones
that its code decides without a test.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.dotenv import parse_dotenv
from longshore.core.interpolation import MAX_DEPTH, interpolate
from longshore.errors import UsageError

ENVIRONMENT = {"FOO": "first", "BAR": "", "_x1": "under", "dollar": "$FOO"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("foo", "foo"),
        ("$$", "$"),
        ("$${foo}", "${foo}"),
        ("$$$FOO", "$first"),
        ("a $ string", "a $ string"),
        ("^REGEX$", "^REGEX$"),
        ("$}", "$}"),
        ("$1", "$1"),
        ("$FOO-bar", "first-bar"),
        ("$FOO$FOO", "firstfirst"),
        ("$FOObar", ""),
        ("${FOO}bar", "firstbar"),
        ("$_x1.", "under."),
        ("$foo", ""),
        ("${missing}", ""),
        ("${dollar}", "$FOO"),
        ("${missing:-def}", "def"),
        ("${missing-def}", "def"),
        ("${missing:-}", ""),
        ("${BAR:-def}", "def"),
        ("${BAR-def}", ""),
        ("${FOO:-def}", "first"),
        ("${BAR:-/non:-alphanumeric}", "/non:-alphanumeric"),
        ("${missing:-$FOO}", "first"),
        ("${missing-${FOO} ${FOO}}", "first first"),
        ("${missing:-${also:-${FOO}!}}", "first!"),
        ("${missing:-a$$b}", "a$b"),
        ("${missing:-{}}", "{}"),
        ('${missing:-{"a": {}}}x', '{"a": {}}x'),
        ("${missing:-a{b}", "a{b"),
        ("${FOO:-${BAD!}}", "first"),
        ("${FOO?err}", "first"),
        ("${FOO:?err}", "first"),
        ("${BAR?err}", ""),
        ("${missing-myerror?msg}", "myerror?msg"),
        ("${missing+alt}", ""),
        ("${missing:+alt}", ""),
        ("${FOO+alt}", "alt"),
        ("${FOO:+alt}", "alt"),
        ("${BAR+alt}", "alt"),
        ("${BAR:+alt}", ""),
        ("${BAR+$FOO ${FOO:+second}}", "first second"),
        ("+ok ${missing:-${BAR-def}}", "+ok "),
        (":?ok ${BAR:-def}", ":?ok def"),
        ("${FOO}-${missing:-x}", "first-x"),
        ("${missing:-a}\n${missing:-b}", "a\nb"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    assert interpolate(text, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${", "at character 1: expected the name"),
        ("ab${}", "at character 3: expected the name"),
        ("${ }", "expected the name"),
        ("${ foo}", "expected the name"),
        ("${1}", "expected the name"),
        ("${foo }", "expected `}`"),
        ("${foo!}", "expected `}`"),
        ("${foo:x}", "expected `}`"),
        ("${foo", "expected `}`"),
        ("${foo:-bar", "not closed"),
        ("${foo:-bar\n}", "not closed"),
        ("${foo:-${bar}", "at character 8: expected `}`"),
        ("x ${missing:?Not\nhere}", "at character 3: `${` is not closed"),
        ("x ${missing:?}", "at character 3: required variable missing is missing a value"),
        ("${BAR:?Empty}", "required variable BAR is missing a value: Empty"),
        ("${missing?Is ${FOO}}", "required variable missing is missing a value: Is first"),
        ("${missing?bar-baz}", "missing a value: bar-baz"),
    ],
)
def test_wrong_forms_are_refused_with_their_position(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        interpolate(text, ENVIRONMENT)
    assert told in str(caught.value)


def test_variables_that_are_unset_and_have_no_default_are_told() -> None:
    told: list[str] = []
    interpolate("$a ${b} ${c:-} ${d+x} $FOO ${e-$f}", ENVIRONMENT, on_unset=told.append)
    assert told == ["a", "b", "f"]


def test_defaults_inside_defaults_have_a_limit_and_never_overflow_the_stack() -> None:
    def nested(depth: int) -> str:
        return "${x:-" * depth + "end" + "}" * depth

    assert interpolate(nested(MAX_DEPTH), {}) == "end"
    with pytest.raises(UsageError, match="nested"):
        interpolate(nested(20_000), {})


_pieces = st.sampled_from(
    ["$", "{", "}", "$$", "${", "FOO", "BAR", "x", ":-", "-", ":?", "?", ":+", "+", " ", "\n", "é"]
)


@given(st.lists(_pieces, max_size=25).map("".join))
def test_interpolation_gives_text_or_a_usage_error(text: str) -> None:
    try:
        outcome = interpolate(text, ENVIRONMENT).replace("\n", " ")
    except UsageError as error:
        outcome = str(error)
    assert "\n" not in outcome


@given(st.text(max_size=50))
def test_text_with_doubled_dollars_stands_for_itself(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), ENVIRONMENT) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("# comment\n\n  # another\nA=1", {"A": "1"}),
        ("A =1", {"A": "1"}),
        ("  A= 1 ", {"A": "1"}),
        ("A: 1", {"A": "1"}),
        ("A: x=y", {"A": "x=y"}),
        ("A=1:B", {"A": "1:B"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("a.b[1]-c=d", {"a.b[1]-c": "d"}),
        ("űrő=1", {"űrő": "1"}),
        ('="value"', {}),
        ("export A=2", {"A": "2"}),
        ("\texport\tA=2", {"A": "2"}),
        ("exportA=2\nexport_B=3", {"exportA": "2", "export_B": "3"}),
        ("A=b # comment", {"A": "b"}),
        ("A=b #", {"A": "b"}),
        ("A=1#no-comment", {"A": "1#no-comment"}),
        ("A=\\n", {"A": "\\n"}),
        ("A='1'", {"A": "1"}),
        ("A='b#c' # comment\nB=2", {"A": "b#c", "B": "2"}),
        ("A='$FOO \\n'", {"A": "$FOO \\n"}),
        (r"A='it\'s'", {"A": "it's"}),
        (r"A='a\\'", {"A": r"a\\"}),
        ('A="b#c"#', {"A": "b#c"}),
        ('A="one\ntwo"\nB=2', {"A": "one\ntwo", "B": "2"}),
        ("A='one\r\ntwo'", {"A": "one\r\ntwo"}),
        ("A=\"'d'\"", {"A": "'d'"}),
        (r'A="\"quoted\""', {"A": '"quoted"'}),
        (r'A="Z\aZ\bZ\fZ\nZ\rZ\tZ\vZ\\Z\0123Z"', {"A": "Z\aZ\bZ\fZ\nZ\rZ\tZ\vZ\\ZSZ"}),
        (r'A="bar\n\ b\az"', {"A": "bar\n\\ b\az"}),
        (r'A="bar\\r\ b\az"', {"A": "bar\\r\\ b\az"}),
        (r'A="\x07 \u12e4 \c"', {"A": r"\x07 \u12e4 \c"}),
        (r'A="\0777"', {"A": r"\777"}),
        (r'A="foo\$FOO"', {"A": "foo$FOO"}),
        (r'A="foo\${FOO} ${FOO}"', {"A": "foo${FOO} first"}),
        ('A="a" B=b', {"A": "a", "B": "b"}),
        ("A=$FOO", {"A": "first"}),
        ("A=1\nB=${A}2\nC=$B$A", {"A": "1", "B": "12", "C": "121"}),
        ("FOO=file\nB=$FOO", {"FOO": "file", "B": "first"}),
        ("A=${nope:-d}", {"A": "d"}),
        ("FOO\nmissing\nA=1", {"FOO": "first", "A": "1"}),
        ("FOO", {"FOO": "first"}),
    ],
)
def test_env_files_are_read(text: str, expected: dict[str, str]) -> None:
    assert parse_dotenv(text, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\nlol$wut", ".env:2: expected NAME=value, but '$'"),
        ("A=1\n\n# x\nB C=1", ".env:4: expected NAME=value, but ' '"),
        ("%=1", ".env:1:"),
        ('A="one\n\nB=2', ".env:1: the value is not closed"),
        ("A='x", "not closed by '"),
        (r'A="x\"', 'not closed by "'),
        ("A=1\nB=${x!}", ".env:2: B: at character 1"),
        ("A=${x:?who}", "required variable x is missing a value: who"),
    ],
)
def test_wrong_lines_of_env_files_are_refused_with_their_line(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_dotenv(text, ENVIRONMENT)
    assert told in str(caught.value)


def test_errors_of_env_files_do_not_show_what_may_be_a_secret() -> None:
    for text in ("KEY='hunter2", "hunter2+abc=", "A=hunter2${x!hunter2}"):
        with pytest.raises(UsageError) as caught:
            parse_dotenv(text, {}, path="ci.env")
        assert "hunter2" not in str(caught.value)
        assert str(caught.value).startswith("ci.env:1:")


_lines = st.sampled_from(
    [
        "A",
        "B",
        "=",
        ":",
        "'",
        '"',
        "\\",
        "\n",
        "\r\n",
        "#",
        " ",
        "$A",
        "${B:-x}",
        "${",
        "export ",
        "0",
    ]
)


@given(st.lists(_lines, max_size=25).map("".join))
def test_env_files_give_variables_or_a_usage_error(text: str) -> None:
    try:
        outcome = str(parse_dotenv(text, ENVIRONMENT))
    except UsageError as error:
        outcome = str(error)
    assert "\n" not in outcome


@given(st.text(st.characters(exclude_characters="'\\"), max_size=40))
def test_text_in_single_quotes_stands_for_itself(text: str) -> None:
    assert parse_dotenv(f"A='{text}'\nB=1", {}) == {"A": text, "B": "1"}
