"""A bucket's properties as two servers keep them: moto in AWS's place, and a real SeaweedFS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.support.raw_s3 import RawBucket
from tests.support.s3_fixtures import isolate_from_host
from tests.support.seaweedfs import ADMIN, SeaweedFS

from longshore.core.bucket_lifecycle import abort_rule
from longshore.core.bucket_plan import BucketState, Step, Unknown, Wanted, plan_bucket
from longshore.core.policy import Place
from longshore.errors import AccessDenied, StoreError
from longshore.store.aws_bucket import AwsBucket, open_bucket
from longshore.store.s3_errors import Unsupported

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SECONDS = timedelta(seconds=20)
Opened = Callable[..., Any]


@contextmanager
def opened(
    name: str = "my-cache", *, region: str | None = None, endpoint_url: str | None = None
) -> Iterator[AwsBucket]:
    with open_bucket(
        name,
        region=region,
        endpoint_url=endpoint_url,
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
    ) as bucket:
        yield bucket


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_from_host(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)


@pytest.fixture
def aws(credentials: None) -> Iterator[Any]:
    """Amazon's S3 as moto plays it, without a network: a client of it."""
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


def make_right(bucket: AwsBucket, wanted: Wanted) -> tuple[Step, ...]:
    """Write what is planned, and return what is planned afterwards."""
    if bucket.read() is None:
        bucket.create()
    for step in plan_bucket(bucket.read(), wanted):
        if step.writes:
            bucket.write(step)
    return plan_bucket(bucket.read(), wanted)


class TestOnAws:
    @pytest.mark.parametrize("key", [None, KEY])
    def test_a_bucket_is_right_once_it_was_made_so(self, aws: Any, key: str | None) -> None:
        with opened(region="eu-west-1") as bucket:
            wanted = Wanted(Place("my-cache", "cache", kms_key=key), "eu-west-1", 2)

            plan = make_right(bucket, wanted)

        assert [step.verdict for step in plan] == ["right"] * 6

    def test_everything_is_stored_as_aws_reads_it(self, aws: Any) -> None:
        with opened() as bucket:
            make_right(bucket, Wanted(Place("my-cache", "cache", kms_key=KEY), None, 2))

        block = aws.get_public_access_block(Bucket="my-cache")["PublicAccessBlockConfiguration"]
        assert list(block.values()) == [True] * 4
        policy = json.loads(aws.get_bucket_policy(Bucket="my-cache")["Policy"])
        assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        rules = aws.get_bucket_lifecycle_configuration(Bucket="my-cache")["Rules"]
        assert rules == [abort_rule("cache/", 2)]
        encryption = aws.get_bucket_encryption(Bucket="my-cache")
        (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KEY
        assert rule["BucketKeyEnabled"] is True
        owner = aws.get_bucket_ownership_controls(Bucket="my-cache")["OwnershipControls"]
        assert owner["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]

    def test_what_others_put_there_stays(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        theirs = {
            "Sid": "Theirs",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::my-cache/*",
        }
        policy = {"Version": "2012-10-17", "Id": "x", "Statement": [theirs]}
        aws.put_bucket_policy(Bucket="my-cache", Policy=json.dumps(policy))
        rule = {
            "ID": "theirs",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}},
            "Expiration": {"Days": 30},
        }
        aws.put_bucket_lifecycle_configuration(
            Bucket="my-cache", LifecycleConfiguration={"Rules": [rule]}
        )

        with opened() as bucket:
            plan = make_right(bucket, Wanted(Place("my-cache"), None, 2))

        assert not any(step.writes for step in plan)
        stored = json.loads(aws.get_bucket_policy(Bucket="my-cache")["Policy"])
        assert (stored["Id"], stored["Statement"][0]) == ("x", theirs)
        rules = aws.get_bucket_lifecycle_configuration(Bucket="my-cache")["Rules"]
        assert rules == [rule, abort_rule("", 2)]

    @pytest.mark.parametrize(
        ("region", "location"), [("us-east-1", None), (None, None), ("eu-west-1", "eu-west-1")]
    )
    def test_a_bucket_is_created_where_it_is_wanted(
        self, aws: Any, region: str | None, location: str | None
    ) -> None:
        with opened(region=region) as bucket:
            assert bucket.region_for_new == (region or "us-east-1")
            bucket.create()
            state = bucket.read()

        assert aws.get_bucket_location(Bucket="my-cache")["LocationConstraint"] == location
        assert state is not None
        assert state.region == (region or "us-east-1")

    def test_the_region_of_the_environment_counts(
        self, aws: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

        with opened() as bucket:
            bucket.create()

        location = aws.get_bucket_location(Bucket="my-cache")["LocationConstraint"]
        assert location == "eu-central-1"

    def test_a_bucket_in_china_is_named_in_its_partition(self, aws: Any) -> None:
        with opened(region="cn-north-1") as bucket:
            assert (bucket.is_aws, bucket.partition) == (True, "aws-cn")
        with opened(region="eu-west-1") as bucket:
            assert (bucket.is_aws, bucket.partition) == (True, "aws")

    def test_a_bucket_that_is_not_there_is_none(self, aws: Any) -> None:
        with opened() as bucket:
            assert bucket.read() is None

    def test_a_new_bucket_has_nothing_set(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")

        with opened() as bucket:
            state = bucket.read()

        assert state is not None
        assert (state.policy, state.lifecycle, state.public_access) == (None, None, None)

    def test_a_policy_that_is_no_json_is_no_crash(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        with opened() as bucket:
            bucket._client.get_bucket_policy = lambda **_: {"Policy": "{"}
            state = bucket.read()

        (step,) = (
            s for s in plan_bucket(state, Wanted(Place("my-cache"), None, 2)) if s.name == "tls"
        )
        assert step.verdict == "refused"


class Refusing:
    """Answers of a server, by operation: each an HTTP status and a code of S3."""

    def __init__(self, bucket: AwsBucket, answers: Mapping[str, tuple[int, str]]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        events = bucket._client.meta.events
        events.register("before-send.s3", self._answer)
        events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.asked.append(model.name)

    def _answer(self, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        found = self._answers.get(self.asked[-1])
        if found is None:
            return None
        status, code = found
        body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""

        class Raw:
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield body

        return AWSResponse("https://s3.example.com", status, {}, Raw())


_ENCRYPT = Step(
    "encryption",
    "create",
    "",
    value={"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
)


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "code"),
        [(501, "NotImplemented"), (405, "MethodNotAllowed"), (501, ""), (400, "NotImplemented")],
    )
    def test_a_property_that_the_server_lacks_is_named(
        self, aws: Any, status: int, code: str
    ) -> None:
        aws.create_bucket(Bucket="my-cache")
        with opened() as bucket:
            Refusing(bucket, {"GetPublicAccessBlock": (status, code)})
            state = bucket.read()

        assert state is not None
        lacks = "this server has no block of public access"
        assert state.public_access == Unknown(lacks, unsupported=True)
        assert isinstance(state.ownership, dict | None)

    def test_a_property_that_may_not_be_read_is_no_end(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        with opened() as bucket:
            Refusing(bucket, {"GetBucketPolicy": (403, "AccessDenied")})
            state = bucket.read()

        assert state is not None
        assert isinstance(state.policy, Unknown)
        assert not state.policy.unsupported
        assert state.policy.reason.startswith(
            "cannot read the bucket policies of s3://my-cache: access denied (403 AccessDenied)"
        )

    def test_a_bucket_of_somebody_else_is_an_error(self, aws: Any) -> None:
        with opened() as bucket:
            Refusing(bucket, {"HeadBucket": (403, "")})
            with pytest.raises(AccessDenied):
                bucket.read()

    def test_a_name_that_is_taken_is_an_error_that_says_so(self, aws: Any) -> None:
        with opened() as bucket:
            Refusing(bucket, {"CreateBucket": (409, "BucketAlreadyExists")})
            with pytest.raises(StoreError, match="somebody else has a bucket of this name"):
                bucket.create()

    def test_a_property_that_cannot_be_written_is_unsupported(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        step = Step("uploads", "create", "", value={"Rules": [abort_rule("", 2)]})
        with opened() as bucket:
            Refusing(bucket, {"PutBucketLifecycleConfiguration": (501, "NotImplemented")})
            with pytest.raises(Unsupported, match="this server has no lifecycle rules"):
                bucket.write(step)

    def test_only_other_servers_say_400_where_they_have_no_encryption(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        step = Step("encryption", "create", "", value={"Rules": []})
        answer = {"PutBucketEncryption": (400, "InvalidRequest")}
        with opened() as bucket:
            Refusing(bucket, answer)
            with pytest.raises(StoreError) as caught:
                bucket.write(step)
            assert not isinstance(caught.value, Unsupported)
        with opened(endpoint_url="http://127.0.0.1:1") as bucket:
            Refusing(bucket, answer)
            with pytest.raises(Unsupported, match="this server has no default encryption"):
                bucket.write(step)

    def test_an_answer_to_another_question_is_none(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        with opened() as bucket:
            bucket._client.get_bucket_ownership_controls = lambda **_: {"OwnershipControls": {}}
            bucket._client.get_public_access_block = lambda **_: {
                "PublicAccessBlockConfiguration": {}
            }
            state = bucket.read()

        assert state is not None
        assert state.ownership == Unknown("this server has no ownership controls", unsupported=True)
        assert isinstance(state.public_access, Unknown)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ((400, "InvalidArgument"), True),
            ((501, "NotImplemented"), True),
            ((403, "AccessDenied"), False),
        ],
    )
    def test_an_encryption_that_the_server_would_refuse_is_found_out_before(
        self, credentials: None, answer: tuple[int, str], expected: bool
    ) -> None:
        with opened(endpoint_url="http://127.0.0.1:1") as bucket:
            Refusing(bucket, {"CreateMultipartUpload": answer})
            cannot = bucket.cannot_encrypt(_ENCRYPT, "cache/")

        assert cannot is not None
        assert cannot.unsupported == expected

    def test_what_else_a_lifecycle_configuration_says_is_sent_back(self, aws: Any) -> None:
        aws.create_bucket(Bucket="my-cache")
        sent: dict[str, Any] = {}
        with opened() as bucket:
            bucket._client.put_bucket_lifecycle_configuration = lambda **k: sent.update(k)
            rules = [abort_rule("", 2)]
            size = "varies_by_storage_class"
            value = {"Rules": rules, "TransitionDefaultMinimumObjectSize": size}
            bucket.write(Step("uploads", "create", "", value=value))

        assert sent == {
            "Bucket": "my-cache",
            "LifecycleConfiguration": {"Rules": rules},
            "TransitionDefaultMinimumObjectSize": size,
        }


@pytest.mark.s3
class TestOnSeaweedFS:
    def test_a_bucket_is_right_but_for_what_the_server_lacks(
        self, seaweedfs: SeaweedFS, credentials: None
    ) -> None:
        name = seaweedfs.make_bucket()
        wanted = Wanted(Place(name, "cache"), None, 2, tls=False, why_no_tls="plain HTTP")
        with opened(name, endpoint_url=seaweedfs.endpoint_url) as bucket:
            assert not bucket.is_aws
            plan = make_right(bucket, wanted)
            state = bucket.read()

        assert {step.name: step.verdict for step in plan} == {
            "bucket": "right",
            "ownership": "right",
            "encryption": "right",
            "tls": "left out",
            "public-access": "unsupported",
            "uploads": "right",
        }
        assert isinstance(state, BucketState)
        assert state.lifecycle is not None
        assert not isinstance(state.lifecycle, Unknown)
        assert state.lifecycle["Rules"] == [abort_rule("cache/", 2)]

    def test_a_bucket_is_created_and_can_be_used(
        self, seaweedfs: SeaweedFS, credentials: None
    ) -> None:
        name = "made-by-setup"
        with opened(name, endpoint_url=seaweedfs.endpoint_url) as bucket:
            assert bucket.read() is None
            make_right(bucket, Wanted(Place(name), None, 2, tls=False))

        raw = RawBucket(seaweedfs.endpoint_url, name)
        raw.client.put_object(Bucket=name, Key="x", Body=b"y")
        assert raw.client.head_object(Bucket=name, Key="x")["ServerSideEncryption"] == "AES256"
        raw.close()

    def test_that_the_server_encrypts_is_tried_and_leaves_nothing(
        self, seaweedfs: SeaweedFS, credentials: None
    ) -> None:
        name = seaweedfs.make_bucket()
        with opened(name, endpoint_url=seaweedfs.endpoint_url) as bucket:
            assert bucket.cannot_encrypt(_ENCRYPT, "cache/") is None

        raw = RawBucket(seaweedfs.endpoint_url, name)
        assert raw.client.list_multipart_uploads(Bucket=name).get("Uploads", []) == []
        assert raw.client.list_objects_v2(Bucket=name)["KeyCount"] == 0
        raw.close()

    def test_rules_of_others_stay(self, seaweedfs: SeaweedFS, credentials: None) -> None:
        name = seaweedfs.make_bucket()
        raw = RawBucket(seaweedfs.endpoint_url, name)
        theirs = {**abort_rule("logs/", 30), "ID": "theirs"}
        raw.client.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": [theirs]}
        )
        with opened(name, endpoint_url=seaweedfs.endpoint_url) as bucket:
            make_right(bucket, Wanted(Place(name, "cache"), None, 2, tls=False))

        rules = raw.client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        raw.close()
        assert rules == [theirs, abort_rule("cache/", 2)]
