"""The commands, as Typer reads them. What they do is in `ops`; what they say is in `output`."""

from __future__ import annotations

from typing import Annotated

import typer

from longshore import __version__
from longshore.cli_handed import run_handed
from longshore.cli_job import Job, Shown, execute
from longshore.cli_options import Forwarding, forwarded, with_options
from longshore.config_layers import Flags

app = typer.Typer(
    name="longshore",
    help=(
        "Keep the images of a project's Docker services in S3, so that a build machine\n"
        "that starts empty builds warm: `longshore import` before the build loads them,\n"
        "`longshore export` after it stores what has changed."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, and no rich to import for it
    no_args_is_help=True,
)

Services = Annotated[
    list[str] | None,
    typer.Argument(metavar="SERVICE", help="Services, such as web; all cached ones if none."),
]
ToBuild = Annotated[
    list[str] | None, typer.Argument(metavar="SERVICE", help="Services, such as web; all if none.")
]
Flushed = Annotated[
    list[str] | None, typer.Argument(metavar="SERVICE", help="As --service; all services if none.")
]
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="A service, such as web.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longshore {__version__}")
        raise typer.Exit


@app.callback()
def longshore(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Say the version."),
    ] = False,
) -> None:
    """Keep images in S3."""


@app.command("export")
@with_options("export")
def export_(ctx: typer.Context, flags: Flags, names: Services = None) -> int:
    """Store the images of services: after the build."""
    return run_handed(ctx.obj, flags, "export", names or [])


@app.command("import")
@with_options("import")
def import_(ctx: typer.Context, flags: Flags, names: Services = None) -> int:
    """Load the newest cached images of services: before the build."""
    return run_handed(ctx.obj, flags, "import", names or [])


@app.command("cache-from")
@with_options("cache-from")
def cache_from(ctx: typer.Context, flags: Flags, names: Services = None) -> int:
    """Say what makes the next build warm.

    For one service: docker build $(longshore cache-from web) -t shop-web .
    """

    async def work(job: Job) -> Shown:
        from longshore.cli_build import cache_from

        return await cache_from(job, names or [])

    return execute(ctx.obj, flags, "cache-from", work)


@app.command("build", cls=Forwarding)
@with_options("build")
def build(ctx: typer.Context, flags: Flags, names: ToBuild = None) -> int:
    """Import, build with a warm cache, and export.

    What follows `--` goes to `docker compose build`, or to `docker build` where the services file
    is Codeship's: longshore build web -- --pull
    """

    async def work(job: Job) -> Shown:
        from longshore.cli_build import build

        return await build(job, names or [], forwarded(ctx))

    return execute(ctx.obj, flags, "build", work)


@app.command("credentials")
@with_options("credentials")
def credentials(ctx: typer.Context, flags: Flags) -> int:
    """Hand out credentials for one scope: run by a broker.

    In a shell: granted=$(longshore credentials --project shop --scope pr:17 --fallback main
    --role-arn arn:aws:iam::123456789012:role/builder) && eval "$granted"
    """

    async def work(job: Job) -> Shown:
        from longshore.cli_credentials import credentials

        return await credentials(job)

    return execute(ctx.obj, flags, "credentials", work)


@app.command("list")
@with_options("list")
def list_(ctx: typer.Context, flags: Flags) -> int:
    """List what is cached."""

    async def work(job: Job) -> Shown:
        from longshore.cli_work import list_

        return await list_(job)

    return execute(ctx.obj, flags, "list", work)


@app.command()
@with_options("show")
def show(ctx: typer.Context, flags: Flags, service: Service) -> int:
    """Show what an import of a service would load."""

    async def work(job: Job) -> Shown:
        from longshore.cli_work import show

        return await show(job, service)

    return execute(ctx.obj, flags, "show", work)


@app.command()
@with_options("diff")
def diff(ctx: typer.Context, flags: Flags, service: Service) -> int:
    """Compare a service's images in the engine with cached ones."""

    async def work(job: Job) -> Shown:
        from longshore.cli_work import diff

        return await diff(job, service)

    return execute(ctx.obj, flags, "diff", work)


@app.command()
@with_options("cat")
def cat(ctx: typer.Context, flags: Flags, service: Service) -> int:
    """Write a service's images as an archive.

    It is what `docker save` would write: longshore cat web | docker load
    """

    async def work(job: Job) -> Shown:
        from longshore.cli_work import cat

        return await cat(job, service)

    return execute(ctx.obj, flags, "cat", work)


@app.command()
@with_options("keygen")
def keygen(ctx: typer.Context, flags: Flags) -> int:
    """Make the keys that stored images are signed with."""

    async def work(job: Job) -> Shown:
        from longshore.cli_keys import keygen

        return await keygen(job)

    return execute(ctx.obj, flags, "keygen", work)


@app.command()
@with_options("prune")
def prune(ctx: typer.Context, flags: Flags) -> int:
    """Remove old entries; delete what nobody can need."""

    async def work(job: Job) -> Shown:
        from longshore.cli_prune import prune

        return await prune(job)

    return execute(ctx.obj, flags, "prune", work)


@app.command()
@with_options("flush")
def flush(ctx: typer.Context, flags: Flags, names: Flushed = None) -> int:
    """Have the next imports find nothing."""
    return run_handed(ctx.obj, flags, "flush", names or [])


@app.command()
@with_options("check")
def check(ctx: typer.Context, flags: Flags) -> int:
    """Find what is damaged, and whom that costs."""

    async def work(job: Job) -> Shown:
        from longshore.cli_check import check

        return await check(job)

    return execute(ctx.obj, flags, "check", work)


@app.command()
@with_options("stats")
def stats(ctx: typer.Context, flags: Flags) -> int:
    """Tell what is stored, and how it grows."""

    async def work(job: Job) -> Shown:
        from longshore.cli_check import stats

        return await stats(job)

    return execute(ctx.obj, flags, "stats", work)


@app.command()
@with_options("serve")
def serve(ctx: typer.Context, flags: Flags) -> int:
    """Be a sidecar: import now, export what is built."""
    from longshore.cli_serve import serve

    return serve(ctx.obj, flags)


@app.command()
@with_options("wait")
def wait(ctx: typer.Context, flags: Flags) -> int:
    """Wait until the sidecar says that builds may go on."""
    from longshore.cli_wait import wait

    return wait(ctx.obj, flags)


@app.command()
@with_options("doctor")
def doctor(ctx: typer.Context, flags: Flags) -> int:
    """Check all that a build needs; say what to do."""

    async def work(job: Job) -> Shown:
        from longshore.cli_work import doctor

        return await doctor(job)

    return execute(ctx.obj, flags, "doctor", work)


@app.command()
@with_options("setup")
def setup(ctx: typer.Context, flags: Flags) -> int:
    """Create or check the bucket; print roles for it."""

    async def work(job: Job) -> Shown:
        from longshore.cli_setup import setup

        return await setup(job)

    return execute(ctx.obj, flags, "setup", work)


@app.command()
@with_options("config")
def config(ctx: typer.Context, flags: Flags) -> int:
    """Show the settings that count, and where each comes from."""

    async def work(job: Job) -> Shown:
        from longshore.cli_work import config

        return await config(job)

    return execute(ctx.obj, flags, "config", work)
