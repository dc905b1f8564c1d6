"""The options: one table, from which flags, variables, keys of the file and the help are made."""

from __future__ import annotations

from keyword import iskeyword
from typing import Literal, NamedTuple, get_args

CONCURRENCY = 8
KEEP_LAST = 1

Kind = Literal["text", "list", "switch", "secret"]
Format = Literal["flags", "compose", "bake", "json", "env", "process", "github"]
FORMATS: dict[str, tuple[Format, ...]] = {
    "cache-from": ("flags", "compose", "bake", "json"),
    "credentials": ("env", "json", "process", "github"),
}
"""What a command that has formats can write; the first is what it writes if nobody says."""
Print = Literal["roles", "terraform", "commands"]
Provider = Literal["aws", "ceph"]
Sse = Literal["AES256", "aws:kms", "aws:kms:dsse"]

_BUILD = ("build",)
_SETUP = ("setup",)
_PRUNE = ("prune",)
_FLUSH = ("flush",)
_CHECK = ("check",)
_DRY = (*_SETUP, *_PRUNE, *_FLUSH, *_CHECK)
_ASKING = (*_SETUP, *_FLUSH, *_CHECK)
_EXPORTS = ("export", *_BUILD, "serve")
_DISK = (*_EXPORTS, "doctor")
_CREDENTIALS = ("credentials",)
_READERS = ("import", *_EXPORTS, "list", "show", "diff", "cat")
_SERVE = ("serve",)
_HANDED_OVER = ("import", "export", "flush")
_WAIT = ("wait",)
SOCKET = "/run/longshore/longshore.sock"
LogFormat = Literal["text", "json"]


class Option(NamedTuple):
    """One thing that can be set."""

    name: str
    """In a configuration file, and of the flag."""
    help: str
    metavar: str = ""
    kind: Kind = "text"
    short: str | None = None
    only: tuple[str, ...] = ()
    """The commands that have the flag; all, if it is empty."""
    on: bool = False
    """Of a switch: what counts if nobody says anything."""
    off: str = ""
    """Of a switch: the name of the flag that takes it back; `no-…` if it is empty."""

    @property
    def flag(self) -> str:
        """The flag, as it is typed."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"LONGSHORE_{self.name.replace('-', '_').upper()}"

    @property
    def off_flag(self) -> str:
        """The flag that takes a switch back."""
        return f"--{self.off or f'no-{self.name}'}"

    @property
    def parameter(self) -> str:
        """The name in Python."""
        name = self.name.replace("-", "_")
        return f"{name}_" if iskeyword(name) else name


OPTIONS: tuple[Option, ...] = (
    Option("store", "Where the cache is: s3://bucket/prefix or file:///dir.", "URL"),
    Option("endpoint-url", "The S3 server, if it is not AWS: https://s3.example.com.", "URL"),
    Option("sse", f"Have S3 encrypt: {', '.join(get_args(Sse))}.", "KIND"),
    Option(
        "kms-key",
        "Have S3 encrypt with this KMS key: an ARN, or an id or alias.",
        "KEY",
    ),
    Option(
        "sse-customer-key",
        "Have S3 encrypt with the key in this file: 32 bytes, plain or base64.",
        "FILE",
        "secret",
    ),
    Option("project", "The project in the store (default: the Compose project name).", "NAME"),
    Option(
        "scope",
        "The scope to write, and to read first: main, pr:17 (default: from the CI, else git).",
        "NAME",
    ),
    Option(
        "fallback",
        "A scope to read next; repeatable (default: the target and default branches).",
        "NAME",
        "list",
    ),
    Option("services", "The services file (default: the one in this directory).", "FILE"),
    Option(
        "image",
        "An image without a services file: web=myorg/web:latest; repeatable.",
        "SERVICE=IMAGE",
        "list",
    ),
    Option(
        "level",
        "Compression: 1 to 19, or auto, by what is idle, network or CPU (default: auto).",
        "LEVEL",
        only=_EXPORTS,
    ),
    Option(
        "parents",
        "Keep the images that others were built on; off for the shortest export (default: on).",
        kind="switch",
        only=_EXPORTS,
        on=True,
    ),
    Option(
        "direct",
        "Read layers from the engine's disk, where that can be done (default: on).",
        kind="switch",
        only=_DISK,
        on=True,
    ),
    Option(
        "data-root",
        "Where the engine's data lies here (default: where the engine says).",
        "PATH",
        only=_DISK,
    ),
    Option(
        "signing-key",
        "Sign what is stored with the private key in this file.",
        "FILE",
        "secret",
        only=(*_EXPORTS, *_FLUSH),
    ),
    Option(
        "trusted-key",
        "Use only what this key signed: a public key, or its file; repeatable.",
        "KEY",
        "list",
        only=_READERS,
    ),
    Option("memory", "Memory to stay within (default: 256MiB).", "SIZE"),
    Option(
        "max-image-size",
        "The most that the layers of one service may hold (default: 50GB).",
        "SIZE",
        only=("import", "build", "cat", "serve"),
    ),
    Option(
        "for-build",
        "Load only what a build of this folder can use: DIR or web=DIR; repeatable"
        " (default: as the services file says).",
        "CONTEXT",
        "list",
        only=("import", "build", "serve"),
    ),
    Option(
        "whole",
        "Load images whole, whatever will be built.",
        kind="switch",
        only=("import", "build", "serve"),
    ),
    Option("concurrency", f"Store requests at once (default: {CONCURRENCY}).", "NUMBER"),
    Option("timeout", "The longest that the command may take (default: 1h).", "DURATION"),
    Option(
        "platform",
        "The platform, such as linux-amd64 (default: the only one).",
        "NAME",
        only=("list", "show", "cat"),
    ),
    Option("all-scopes", "List every scope of the project.", kind="switch", only=("list",)),
    Option(
        "import",
        "Import before the build; serve: when it starts (default: on).",
        kind="switch",
        only=(*_BUILD, *_SERVE),
        on=True,
    ),
    Option(
        "export",
        "Export after the build; serve: whenever an image was built (default: on).",
        kind="switch",
        only=(*_BUILD, *_SERVE),
        on=True,
    ),
    Option(
        "buildkit",
        "Which builder will build (default: the one that the docker command would take).",
        kind="switch",
        only=("cache-from", *_BUILD),
        off="classic",
    ),
    Option(
        "format",
        "What to write (default: the first): "
        + "; ".join(f"{command}: {', '.join(forms)}" for command, forms in FORMATS.items())
        + ".",
        "FORMAT",
        only=tuple(FORMATS),
    ),
    Option(
        "output",
        "Write to this file, not to standard output; of keygen: the private key's file.",
        "FILE",
        only=("cache-from", "keygen"),
    ),
    Option("read-only", "Grant no right to write.", kind="switch", only=_CREDENTIALS),
    Option(
        "duration", "How long it lasts, 15m to 12h (default: 1h).", "DURATION", only=_CREDENTIALS
    ),
    Option("role-arn", "The role that is narrowed to the grant.", "ARN", only=_CREDENTIALS),
    Option(
        "session-name",
        "Its name in the store's log (default: scope@project).",
        "NAME",
        only=_CREDENTIALS,
    ),
    Option(
        "sts-endpoint-url",
        "The STS server, if it is neither AWS nor the S3 server.",
        "URL",
        only=_CREDENTIALS,
    ),
    Option(
        "print-policy",
        "Print the policy of the grant, and ask nobody.",
        kind="switch",
        only=_CREDENTIALS,
    ),
    Option("region", "Where the bucket is created (default: AWS_REGION).", "NAME", only=_SETUP),
    Option("dry-run", "Say what would be done, and do nothing.", kind="switch", only=_DRY),
    Option("yes", "Do not ask before anything is changed.", kind="switch", only=_ASKING),
    Option(
        "print",
        f"Write this and do nothing else: {', '.join(get_args(Print))}.",
        "WHAT",
        only=_SETUP,
    ),
    Option(
        "provider",
        f"Who runs the store: {', '.join(get_args(Provider))} (default: aws).",
        "NAME",
        only=_SETUP,
    ),
    Option("broker-arn", "Who takes the broker's role.", "ARN", only=_SETUP),
    Option("prune-arn", "Who takes the role that prunes.", "ARN", only=_SETUP),
    Option("oidc-provider", "Who signs the tokens of CI jobs.", "ARN", only=_SETUP),
    Option("oidc-audience", "The audience of these tokens.", "NAME", only=_SETUP),
    Option(
        "repository",
        "Whose jobs take roles: github:acme/shop or gitlab:acme/shop.",
        "SERVICE:NAME",
        only=_SETUP,
    ),
    Option(
        "subject",
        "The subject of a class of builds, where it is another one; repeatable.",
        "CLASS=SUBJECT",
        "list",
        only=_SETUP,
    ),
    Option("default-branch", "The repository's default branch.", "NAME", only=_SETUP),
    Option(
        "keep-last",
        f"Newest entries to keep, of each service in each scope (default: {KEEP_LAST}).",
        "NUMBER",
        only=_PRUNE,
    ),
    Option("keep-within", "Keep what is younger as well: 14d.", "DURATION", only=_PRUNE),
    Option("max-size", "The most that a project may weigh: 50GB.", "SIZE", only=_PRUNE),
    Option("protect", "A scope that is never gone; repeatable.", "SCOPE", "list", only=_PRUNE),
    Option(
        "gone-after", "A scope that nobody used for so long is gone: 30d.", "DURATION", only=_PRUNE
    ),
    Option(
        "branches-from",
        "Scopes of branches that it does not name are gone: git, a file, or -.",
        "SOURCE",
        only=_PRUNE,
    ),
    Option(
        "repack-below",
        "Rewrite packs of which less is needed; 0 for none (default: 50%).",
        "SHARE",
        only=_PRUNE,
    ),
    Option(
        "grace",
        "How long nobody must have needed what is deleted (default: 24h).",
        "DURATION",
        only=_PRUNE,
    ),
    Option(
        "all-projects",
        "Every project in the store, not only this one.",
        kind="switch",
        only=("prune", "check", "stats"),
    ),
    Option(
        "read-data",
        "Read what is in packs as well: a share such as 10%, or all.",
        "SHARE",
        only=_CHECK,
    ),
    Option("repair", "Remove entries that can no longer be loaded.", kind="switch", only=_CHECK),
    Option("service", "A service, such as web; repeatable.", "SERVICE", "list", only=_FLUSH),
    Option(
        "now", "Delete at once what the flush leaves; takes --force.", kind="switch", only=_FLUSH
    ),
    Option(
        "force",
        "Do what is safe only if nothing else runs; see the documentation.",
        kind="switch",
        only=(*_PRUNE, *_FLUSH),
    ),
    Option(
        "socket",
        f"The sidecar's socket (default: {SOCKET}).",
        "PATH",
        only=(*_SERVE, *_HANDED_OVER, *_WAIT),
    ),
    Option(
        "sidecar",
        "Hand the work to the sidecar, if one runs here (default: on).",
        kind="switch",
        only=_HANDED_OVER,
        on=True,
    ),
    Option(
        "listen", "Serve on this loopback address, too: 127.0.0.1:8080.", "ADDRESS", only=_SERVE
    ),
    Option(
        "token",
        "The token for --listen, in this file (default: a new one, written beside the socket).",
        "FILE",
        "secret",
        only=_SERVE,
    ),
    Option(
        "ready-timeout",
        "The longest that builds wait for the import at the start (default: 5m).",
        "DURATION",
        only=_SERVE,
    ),
    Option(
        "shutdown-timeout",
        "How long exports may go on when the sidecar is told to end (default: 5m).",
        "DURATION",
        only=_SERVE,
    ),
    Option(
        "log-format", f"What the log is: {', '.join(get_args(LogFormat))}.", "FORMAT", only=_SERVE
    ),
    Option("live", "Ask only whether the sidecar lives.", kind="switch", only=_WAIT),
    Option(
        "strict",
        "Fail on misses and failures, not only on wrong usage.",
        kind="switch",
        only=("export", "import"),
    ),
    Option("json", "Write the result as one JSON document.", kind="switch"),
    Option("quiet", "Say only what went wrong.", kind="switch", short="-q"),
    Option("verbose", "Say more, such as each repeated request.", kind="switch", short="-v"),
)
CONFIG = Option("config", "The configuration file (default: longshore.toml).", "FILE")
