"""What the Dockerfile takes for granted of the code; `tests/engine/test_image.py` builds it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from longshore import __version__

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OPENING = {"client", "create_client", "open_client"}


def services_in_use() -> set[str]:
    found = set()
    for path in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in OPENING:
                found |= {str(x.value) for x in node.args[:1] if isinstance(x, ast.Constant)}
    return found - {"docker"}


def test_the_image_keeps_what_botocore_knows_of_the_services_in_use() -> None:
    kept = set(re.findall(r"! -name ([a-z0-9-]+)", DOCKERFILE))

    assert {"s3", "sts"} <= services_in_use() <= kept


def test_the_images_version_is_the_packages() -> None:
    assert re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE) == [__version__]
