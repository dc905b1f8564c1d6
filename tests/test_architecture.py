"""The layers of the code, as `docs/architecture.md` shows them, read from its import statements."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent / "agent" / "longshore"
MAX_LINES: Final = 400

# What each layer may import besides itself: arrows point one way. The packages are layers, and so
# are the families of modules beside them: `cli*.py`, `config*.py`. All others there are the front:
# wiring, output, and what else knows that a person or a job waits for the answer.
_INNER: Final = frozenset({"ops", "store", "engine", "core", "errors"})
LAYERS: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "core": frozenset({"errors"}),
    "store": frozenset({"core", "errors"}),
    "engine": frozenset({"core", "errors"}),
    "ops": _INNER,
    "config": frozenset({"core", "errors"}),
    "front": _INNER | {"config"},
    "service": _INNER | {"config", "front"},
    "cli": _INNER | {"config", "front", "service"},
}
# Each library has its own modules, which keep its errors and its types to themselves. boto3 is for
# administration: requests that block, one now and then.
LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    "aiobotocore": ("store/s3*.py",),
    "botocore": ("store/s3*.py", "store/aws*.py"),
    "boto3": ("store/aws*.py",),
    "docker": ("engine/docker.py",),
    "requests": ("engine/docker.py",),
    "pyfastcdc": ("core/chunking.py",),
    "zstandard": ("core/codec.py",),
    "cryptography": ("core/signing.py",),
    "yaml": ("core/yaml*.py",),
    "prometheus_client": ("service/metrics.py",),
    "typer": ("cli*.py",),
    "jinja2": ("service/page_render.py",),
    "rich": ("cli*.py", "output*.py", "progress*.py"),
    # It takes a millisecond to make a class: a tenth of the time of an export of what is known.
    "dataclasses": ("core/policy.py", "core/session_credentials.py"),
}
# What would make the core do I/O, wait, know the time, or come out otherwise the next time.
IMPURE: Final = re.compile(
    r"(?:aiohttp|asyncio|concurrent|fcntl|glob|http|io|logging|multiprocessing|os|pathlib|random"
    r"|requests|secrets|select|shutil|signal|socket|ssl|subprocess|sys|tempfile|time"
    r"|urllib\.request)(?:\..*)?"
)
IMPURE_CALLS: Final = re.compile(
    r"breakpoint|exec|eval|input|open|print"
    r"|(?:.*\.)?(?:datetime\.(?:now|today|utcnow)|date\.today|uuid\.uuid[14])"
)
VAGUE: Final = re.compile(r"(?:^|_)(?:utils?|common|helpers?|misc|managers?|handlers?)(?:_|$)")


def layer_of(name: str) -> str:
    """Tell the layer of a module or package directly below `longshore`."""
    if name == "__main__":
        return "cli"
    family = name.partition("_")[0]
    return family if family in LAYERS and family != "front" else "front"


@dataclass(frozen=True)
class Module:
    """One module of the package, by its path below it."""

    path: str
    text: str

    @property
    def layer(self) -> str:
        return layer_of(self.path.split("/")[0].removesuffix(".py"))

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def imports(self) -> Iterator[str]:
        """Absolute names of all that is imported, wherever in the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path} has a relative import"
                assert node.module is not None
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    @property
    def layers_imported(self) -> set[str]:
        names = {name.split(".")[1] for name in self.imports if name.startswith("longshore.")}
        return {
            layer_of(name)
            for name in names
            if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()
        }


@cache
def modules() -> tuple[Module, ...]:
    return tuple(
        Module(path.relative_to(ROOT).as_posix(), path.read_text())
        for path in sorted(ROOT.rglob("*.py"))
    )


def inside(names: Iterator[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


each_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
each_core_module = pytest.mark.parametrize(
    "module",
    [module for module in modules() if module.layer == "core"],
    ids=lambda module: module.path,
)


def test_the_package_is_where_this_test_looks() -> None:
    assert {"errors.py", "core/keys.py"} <= {module.path for module in modules()}


@each_module
def test_imports_point_one_way(module: Module) -> None:
    assert module.layers_imported <= LAYERS[module.layer] | {module.layer}


def test_nothing_imports_the_command_line() -> None:
    importers = {module.layer for module in modules() if "cli" in module.layers_imported}

    assert importers <= {"cli"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_by_its_own_modules(library: str) -> None:
    importers = {module.path for module in modules() if inside(module.imports, library)}

    allowed = {path for path in importers for own in LIBRARIES[library] if fnmatch(path, own)}
    assert importers - allowed == set()


@each_core_module
def test_the_core_does_no_io_and_has_no_clock(module: Module) -> None:
    assert [name for name in module.imports if IMPURE.fullmatch(name)] == []


@each_core_module
def test_the_core_calls_nothing_impure(module: Module) -> None:
    called = {
        ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)
    }

    assert [name for name in called if IMPURE_CALLS.fullmatch(name)] == []


@each_core_module
def test_the_core_does_not_wait(module: Module) -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert not any(isinstance(node, waiting) for node in ast.walk(module.tree))


@each_module
def test_a_module_is_short_enough_to_be_read(module: Module) -> None:
    assert len(module.text.splitlines()) <= MAX_LINES


@each_module
def test_a_module_is_named_for_what_is_in_it(module: Module) -> None:
    assert not any(VAGUE.search(part) for part in re.split(r"[/.]", module.path))


@each_module
def test_a_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree)
