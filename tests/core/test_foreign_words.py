"""What a server quotes of a request must not get into a message, however it quotes it."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.foreign_words import hide, one_line, secrets_of

ACCESS_KEY = "AKIAABCDEFGHIJKLMNOP"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTSECRETX"
TOKEN = "IQoJb3JpZ2luX2VjEXX//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="
CUSTOMER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvIn0.c2lnbmF0dXJl"
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
AUTHORIZATION = (
    f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20261101/us-east-1/s3/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
)
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGtra2tr\n-----END PRIVATE KEY-----"
MARKS = (ACCESS_KEY, SECRET_KEY, TOKEN, CUSTOMER, JWT, SIGNATURE, "MC4CAQAwBQYDK2Vw")

QUOTES = [
    f"Authorization: {AUTHORIZATION}",
    f"authorization={quote(AUTHORIZATION)}",
    f"x-amz-security-token: {TOKEN}",
    f"X-Amz-Security-Token={quote(TOKEN, safe='')}&X-Amz-Signature={SIGNATURE}",
    f"x-amz-server-side-encryption-customer-key: {CUSTOMER}",
    json.dumps({"X-Amz-Security-Token": TOKEN, "authorization": AUTHORIZATION}),
    html.escape(f'<SessionToken>{TOKEN}</SessionToken> "{SECRET_KEY}"'),
    f"<SecretAccessKey>{SECRET_KEY}</SecretAccessKey>",
    f"Authorization: Bearer {JWT}",
    f"token {JWT} has expired",
    f"cannot read {PEM} here",
    f"https://{ACCESS_KEY}:{SECRET_KEY}@example.com/a?X-Amz-Signature={SIGNATURE}",
    f"Access Key Id {ACCESS_KEY} does not exist",
]


@pytest.mark.parametrize("text", QUOTES)
def test_what_looks_like_a_secret_is_left_out(text: str) -> None:
    line = one_line(f"the start {text}")

    assert line.startswith("the start ")
    assert "…" in line or "https://example.com" in line
    assert not [mark for mark in MARKS if mark in line or mark[:24] in line]


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "Password: hunter2",
        '"secret": "hunter2"',
        "secret_key>hunter2<",
        "aws-secret-access-key = hunter2",
        "Authorization: Basic hunter2",
        "http://user:hunter2@proxy:3128",
    ],
)
def test_short_secret_is_known_by_its_name(text: str) -> None:
    assert "hunter2" not in one_line(text)


@pytest.mark.parametrize(
    "text",
    [
        "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: s3:PutObject on x",
        "The specified bucket is not valid",
        "the token has expired",
        "Request has expired. Please set your clock",
        "We encountered an internal error, please try again: 0123456789abcdef",
    ],
)
def test_what_helps_people_stays(text: str) -> None:
    assert one_line(text) == text


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=12)


@given(words, st.text(max_size=50), st.text(max_size=400))
def test_what_was_sent_is_left_out_wherever_it_stands(secret: str, before: str, after: str) -> None:
    for written in (secret, quote(secret, safe=""), html.escape(secret), f"'{secret}'"):
        line = one_line(f"{before} {written} {after}", [secret])
        assert secret not in line
        assert len(line) <= 300


def test_longer_secrets_are_left_out_before_shorter_ones_in_them() -> None:
    assert hide("one-secret-and-more", ["one-secret", "one-secret-and-more"]) == "…"


def test_secrets_of_a_request_are_those_of_its_headers() -> None:
    found = secrets_of(
        {
            "Authorization": AUTHORIZATION.encode(),
            "X-Amz-Security-Token": TOKEN,
            "x-amz-server-side-encryption-customer-key": CUSTOMER,
            "Content-Type": "text/plain",
        }
    )

    assert found == {AUTHORIZATION, ACCESS_KEY, SIGNATURE, TOKEN, CUSTOMER}
