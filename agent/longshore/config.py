"""What counts, after all layers, and the defaults.

Every option can be given as a flag, as a variable `LONGSHORE_…` and in a configuration file; the
first of these that says something counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast, get_args

from longshore.config_grants import (
    check_key_arn,
    check_principal,
    check_role,
    check_session_name,
    parse_session,
)
from longshore.config_layers import Flags, Layers
from longshore.config_options import (
    CONCURRENCY,
    FORMATS,
    KEEP_LAST,
    OPTIONS,
    SOCKET,
    Format,
    LogFormat,
    Print,
    Provider,
    Sse,
)
from longshore.config_secrets import Secret
from longshore.config_values import (
    Listen,
    Location,
    check_endpoint,
    check_kms_key,
    check_region,
    is_customer_key,
    is_pem,
    is_token,
    parse_duration,
    parse_grace,
    parse_level,
    parse_listen,
    parse_period,
    parse_read_share,
    parse_share,
    parse_size,
    parse_store,
    public_key_or_file,
)
from longshore.core.compression_level import Level
from longshore.core.keys import segment
from longshore.errors import UsageError

MIB = 1 << 20

T = TypeVar("T")

MEMORY_BYTES = 256 * MIB
MIN_MEMORY_BYTES = 208 * MIB
MAX_IMAGE_BYTES = 50 * 1000**3  # beyond what images hold, and what build machines have of disk
MAX_CONCURRENCY = 256
TIMEOUT = timedelta(hours=1)
SESSION_DURATION = timedelta(hours=1)  # what any role allows, and as much as a chained one can
GRACE = timedelta(hours=24)  # twice as long as writers and readers rely on anything
WHOLE_PROJECT_TIMEOUT = timedelta(hours=12)  # of check and stats, which may read terabytes
LAST_ENTRIES = 5  # of which stats tells what each added
PRUNE_TIMEOUT = GRACE / 4  # a run that is older does nothing any more
MAX_KEEP_LAST = 10_000
REPACK_BELOW = 0.5
KEY_FILE = "longshore-signing.pem"  # of keygen, without --output

CONNECT_TIMEOUT = timedelta(seconds=10)
READ_TIMEOUT = timedelta(seconds=60)
STORE_ATTEMPTS = 6
RETRY_BASE = timedelta(milliseconds=500)
RETRY_CAP = timedelta(seconds=20)
CHECK_TIMEOUT = timedelta(seconds=30)  # of each of the doctor's checks
GIT_TIMEOUT = timedelta(seconds=10)
GIT_REMOTE_TIMEOUT = timedelta(minutes=1)

# A check's blocks: for each of four blobs two streams of batches, and the chunks that it keeps.
CHECK_BLOCKS_BYTES = 64 * MIB
# What a process needs that moves nothing: Python 20 MiB, the S3 client 45, the Docker client and
# the rest 10, and what the allocator does not give back.
BASELINE_BYTES = 100 * MIB
# An import's blocks on their way to the engine, beside what is read ahead.
IMPORT_BLOCKS_BYTES = 40 * MIB
# What an import reads ahead at least, however much its documents take: three ranges.
MIN_WINDOW_BYTES = 32 * MIB
# An export's blocks from the engine, chunks that are being compressed, and the part that is filled.
# Measured: 400 MB of random bytes to an S3 server take 187 MiB, and 14 more for each part.
EXPORT_BLOCKS_BYTES = 88 * MIB
COPIES_OF_PART = 2  # ours, and what the S3 client makes of it

UPLOAD_DAYS = 2  # an export publishes nothing after 12 hours
ROLE_SESSION = timedelta(hours=12)  # the longest that IAM allows; who takes a role says how long

CONTAINERD_ROOT = "/var/lib/containerd"  # of one that dockerd does not run itself

READY_TIMEOUT = timedelta(minutes=5)
SHUTDOWN_TIMEOUT = timedelta(minutes=5)

DOCKER_TIMEOUT = timedelta(seconds=30)  # of each question to the docker command
DOCKER_GRACE = timedelta(seconds=10)  # for a build that is told to end


class Settings(NamedTuple):
    """What counts, after all layers; `None` for what has no fixed default."""

    store: Location | None
    store_url: str | None
    endpoint_url: str | None
    sse: Sse | None
    kms_key: str | None
    sse_customer_key: Secret | None
    project: str | None
    scope: str | None
    fallback: tuple[str, ...] | None
    services: str | None
    image: tuple[str, ...]
    level: Level
    parents: bool
    direct: bool
    data_root: str | None
    signing_key: Secret | None
    trusted_key: tuple[str, ...]
    memory_bytes: int
    max_image_bytes: int
    for_build: tuple[str, ...]
    whole: bool
    concurrency: int
    timeout: timedelta
    platform: str | None
    all_scopes: bool
    import_: bool
    export: bool
    buildkit: bool | None
    format: str | None
    output: str | None
    read_only: bool
    duration: timedelta
    role_arn: str | None
    session_name: str | None
    sts_endpoint_url: str | None
    print_policy: bool
    region: str | None
    dry_run: bool
    yes: bool
    print: Print | None
    provider: Provider
    broker_arn: str | None
    prune_arn: str | None
    oidc_provider: str | None
    oidc_audience: str | None
    repository: str | None
    subject: tuple[str, ...]
    default_branch: str | None
    keep_last: int
    keep_within: timedelta | None
    max_size: int | None
    protect: tuple[str, ...]
    gone_after: timedelta | None
    branches_from: str | None
    repack_below: float
    grace: timedelta
    all_projects: bool
    read_data: float
    repair: bool
    service: tuple[str, ...]
    now: bool
    force: bool
    socket: str
    sidecar: bool
    listen: Listen | None
    token: Secret | None
    ready_timeout: timedelta
    shutdown_timeout: timedelta
    log_format: LogFormat
    live: bool
    strict: bool
    json: bool
    quiet: bool
    verbose: bool
    sources: Mapping[str, str]
    """Who said so, by the names of options; those that nobody gave are not in it."""

    @property
    def kms_key_arn(self) -> str | None:
        """The KMS key, for policies, which know it by its ARN only.

        Raises:
            UsageError: it is given by an id or alias.
        """
        if self.kms_key is None:
            return None
        try:
            return check_key_arn(self.kms_key)
        except UsageError as error:
            raise UsageError(f"{self.sources['kms-key']}: {error}") from None

    def format_for(self, command: str) -> Format:
        """Tell in which form a command is to write.

        Raises:
            UsageError: it is none, or the command was asked for one that it does not have.
        """
        forms = FORMATS[command]
        wanted = cast(Format, self.format or forms[0])
        if wanted in forms:
            return wanted
        source = self.sources["format"]
        if source != "--format" and any(wanted in others for others in FORMATS.values()):
            return forms[0]  # a variable or the file meant another command
        raise UsageError(
            f"{source}: {wanted[:80]!r} is no format of {command}; known are {', '.join(forms)}"
        )

    @property
    def window_bytes(self) -> int:
        """How much an import may read ahead: what the baseline and its blocks leave."""
        return self.memory_bytes - BASELINE_BYTES - IMPORT_BLOCKS_BYTES

    @property
    def check_window_bytes(self) -> int:
        """How much a check may read ahead."""
        return self.memory_bytes - BASELINE_BYTES - CHECK_BLOCKS_BYTES

    @property
    def document_bytes(self) -> int:
        """How much the documents of a run may take; an import reads ahead so much less."""
        return self.window_bytes - MIN_WINDOW_BYTES

    @property
    def export_document_bytes(self) -> int:
        """How much an export may keep of what the scopes hold: what it need not upload."""
        return self.memory_bytes * 3 // 16

    def parts_at_once(self, part_bytes: int) -> int:
        """How many parts an export may have on their way."""
        free = self.memory_bytes - BASELINE_BYTES - EXPORT_BLOCKS_BYTES
        return max(1, min(self.concurrency, free // (COPIES_OF_PART * part_bytes)))


def load_settings(
    flags: Flags,
    environment: Mapping[str, str],
    file: Mapping[str, object],
    file_name: str,
) -> Settings:
    """Put the layers together.

    Args:
        file: what the configuration file says, by the names of options.
        file_name: as errors shall name it.

    Raises:
        UsageError: a value is not of its kind; the message says who gave it.
    """
    layers = Layers(flags, environment, file, file_name, OPTIONS)
    layers.check_file()
    store_url = layers.text("store")
    format_ = layers.text("format")
    return Settings(
        store=layers.parsed("store", parse_store),
        store_url=store_url,
        endpoint_url=layers.parsed("endpoint-url", check_endpoint),
        sse=layers.parsed("sse", _sse),
        kms_key=layers.parsed("kms-key", check_kms_key),
        sse_customer_key=layers.secret("sse-customer-key", is_customer_key),
        project=layers.parsed("project", _name),
        scope=layers.parsed("scope", _name),
        fallback=layers.each_parsed("fallback", _name),
        services=layers.text("services"),
        image=layers.texts("image") or (),
        level=layers.parsed("level", parse_level) or "auto",
        parents=layers.switch("parents"),
        direct=layers.switch("direct"),
        data_root=layers.text("data-root"),
        signing_key=layers.secret("signing-key", is_pem),
        trusted_key=layers.each_parsed("trusted-key", public_key_or_file) or (),
        memory_bytes=layers.parsed("memory", _memory) or MEMORY_BYTES,
        max_image_bytes=layers.parsed("max-image-size", _image_size) or MAX_IMAGE_BYTES,
        for_build=layers.texts("for-build") or (),
        whole=layers.switch("whole"),
        concurrency=layers.number("concurrency", range(1, MAX_CONCURRENCY + 1)) or CONCURRENCY,
        timeout=layers.parsed("timeout", parse_duration) or TIMEOUT,
        platform=layers.parsed("platform", _name),
        all_scopes=layers.switch("all-scopes"),
        import_=layers.switch("import"),
        export=layers.switch("export"),
        buildkit=layers.switch("buildkit") if layers.has("buildkit") else None,
        format=format_,
        output=layers.text("output"),
        read_only=layers.switch("read-only"),
        duration=layers.parsed("duration", parse_session) or SESSION_DURATION,
        role_arn=layers.parsed("role-arn", check_role),
        session_name=layers.parsed("session-name", check_session_name),
        sts_endpoint_url=layers.parsed("sts-endpoint-url", check_endpoint),
        print_policy=layers.switch("print-policy"),
        region=layers.parsed("region", check_region),
        dry_run=layers.switch("dry-run"),
        yes=layers.switch("yes"),
        print=layers.parsed("print", _print),
        provider=layers.parsed("provider", _provider) or "aws",
        broker_arn=layers.parsed("broker-arn", check_principal),
        prune_arn=layers.parsed("prune-arn", check_principal),
        oidc_provider=layers.text("oidc-provider"),
        oidc_audience=layers.text("oidc-audience"),
        repository=layers.text("repository"),
        subject=layers.texts("subject") or (),
        default_branch=layers.text("default-branch"),
        keep_last=layers.number("keep-last", range(1, MAX_KEEP_LAST + 1)) or KEEP_LAST,
        keep_within=layers.parsed("keep-within", parse_period),
        max_size=layers.parsed("max-size", parse_size),
        protect=layers.each_parsed("protect", _name) or (),
        gone_after=layers.parsed("gone-after", parse_period),
        branches_from=layers.text("branches-from"),
        repack_below=_or(layers.parsed("repack-below", parse_share), REPACK_BELOW),
        grace=_or(layers.parsed("grace", parse_grace), GRACE),
        all_projects=layers.switch("all-projects"),
        read_data=layers.parsed("read-data", parse_read_share) or 0.0,
        repair=layers.switch("repair"),
        service=layers.each_parsed("service", _name) or (),
        now=layers.switch("now"),
        force=layers.switch("force"),
        socket=layers.text("socket") or SOCKET,
        sidecar=layers.switch("sidecar"),
        listen=layers.parsed("listen", parse_listen),
        token=layers.secret("token", is_token),
        ready_timeout=layers.parsed("ready-timeout", parse_duration) or READY_TIMEOUT,
        shutdown_timeout=layers.parsed("shutdown-timeout", parse_duration) or SHUTDOWN_TIMEOUT,
        log_format=layers.parsed("log-format", _log_format) or "text",
        live=layers.switch("live"),
        strict=layers.switch("strict"),
        # Only the command that has formats was asked for one.
        json=layers.switch("json") or ("format" in flags and format_ == "json"),
        quiet=layers.switch("quiet"),
        verbose=layers.switch("verbose"),
        sources=layers.sources,
    )


def _or(value: T | None, default: T) -> T:
    """Return what was given, even if it is nothing."""
    return default if value is None else value


def _name(text: str) -> str:
    segment(text)
    return text


def _log_format(text: str) -> LogFormat:
    if text not in get_args(LogFormat):
        known = ", ".join(get_args(LogFormat))
        raise UsageError(f"{text[:80]!r} is no format of a log; known are {known}")
    return cast(LogFormat, text)


def _print(text: str) -> Print:
    if text not in get_args(Print):
        known = ", ".join(get_args(Print))
        raise UsageError(f"{text[:80]!r} cannot be printed; known are {known}")
    return cast(Print, text)


def _provider(text: str) -> Provider:
    if text not in get_args(Provider):
        known = ", ".join(get_args(Provider))
        raise UsageError(f"{text[:80]!r} is no provider of roles; known are {known}")
    return cast(Provider, text)


def _sse(text: str) -> Sse:
    for known in get_args(Sse):
        if text == known:
            return cast(Sse, known)
    raise UsageError(
        f"{text[:80]!r} is no kind of encryption; known are {', '.join(get_args(Sse))}"
    )


def _image_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise UsageError("no image fits into nothing; give the size as in 50GB")
    return size


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise UsageError(f"{text[:80]!r} is too little; longshore needs 208MiB at least")
    return size
