"""Small projects of several services, and what a developer changes in them between two builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The install writes something else each time, so that its layer tells whether it ran again.
APP = """\
FROM base:1{alias}
{env}WORKDIR /srv/{name}
COPY package.json ./
RUN mkdir modules && cp /proc/sys/kernel/random/uuid modules/.lock && \\
    for name in $(tr -cd 'a-z ' <package.json); do echo "$name" >"modules/$name"; done
COPY src src
RUN cat modules/* src/main.sh >built
"""
RUNTIME = """
FROM base:1
ENV PORT=8080 MODE={name}
WORKDIR /run/{name}
COPY --from=builder /srv/{name}/built ./
"""
COMMAND = 'CMD ["cat", "built"]\n'
PACKAGES = '{{"{name}": "express koa"}}\n'
CODE = "echo {name}\n"
LAYERS_BELOW_INSTALL = 3
"""Base, WORKDIR and COPY: within one second two machines may come to the same ones by chance."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One service, and its change between two builds.

    Each scenario has steps of its own: a cache that was filled by another one is of no use to it.
    So several of them can be measured on one engine.

    Attributes:
        changed: the file that is another one at the second build.
        staged: whether the app is built in a stage of its own, which is kept as a second image.
        has_env: whether the app has a step that makes no layer, and is not its last.
    """

    title: str
    service: str
    changed: str = ""
    staged: bool = False
    has_env: bool = True

    @property
    def image(self) -> str:
        """The tag of the service's image."""
        return f"{self.service}:1"

    @property
    def stages(self) -> tuple[str, ...]:
        """The tags of the stages that are kept; the Dockerfile calls each of them `builder`."""
        return (f"{self.service}-builder:1",) if self.staged else ()

    def write(self, project: Path, *, changed: bool) -> None:
        """Write the service's folder as a fresh checkout has it, before the change or after it."""
        packages, code = PACKAGES, CODE
        if changed and self.changed == "package.json":
            packages = packages.replace("koa", "koa fastify")
        if changed and self.changed == "src":
            code += "echo more\n"
        files = {
            "Dockerfile": APP + (RUNTIME if self.staged else "") + COMMAND,
            "package.json": packages,
            "src/main.sh": code,
        }
        for name, text in files.items():
            file = project / self.service / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                text.format(
                    name=self.service,
                    alias=" AS builder" if self.staged else "",
                    env=f"ENV MODE={self.service}\n" if self.has_env else "",
                )
            )


SCENARIOS = (
    Scenario("unchanged", "same"),
    Scenario("code changed", "code", "src"),
    Scenario("dependency changed", "package", "package.json"),
    Scenario("multi-stage, code changed", "staged", "src", staged=True),
    Scenario("no `ENV`, code changed", "plain", "src", has_env=False),
)


def check_out(project: Path, *, changed: bool, buildkit_cache: bool) -> None:
    """Write the whole project, with a services file that declares what is cached."""
    project.mkdir()
    for scenario in SCENARIOS:
        scenario.write(project, changed=changed)
    (project / "compose.yaml").write_text("\n".join(_compose(buildkit_cache)) + "\n")


def _compose(buildkit_cache: bool) -> Iterator[str]:
    yield "name: shop"
    yield "services:"
    for scenario in SCENARIOS:
        yield f"  {scenario.service}:"
        yield f"    image: {scenario.image}"
        yield f"    build: {scenario.service}"
        yield "    x-longshore:"
        yield "      cached: true"
        if scenario.stages:
            yield f"      images: [{', '.join(scenario.stages)}]"
        if buildkit_cache:
            yield f"      buildkit_cache: .cache/{scenario.service}"
