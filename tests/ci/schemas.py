"""The schemas of CI services, as a package ships them: nothing is fetched."""

from __future__ import annotations

from pathlib import Path

from check_jsonschema import main


def fits(schema: str, path: Path) -> bool:
    """Tell whether a file is what a CI service wants."""
    arguments = ["--quiet", "--builtin-schema", f"vendor.{schema}", str(path)]
    try:
        main(arguments, standalone_mode=True)
    except SystemExit as end:
        return not end.code
    raise AssertionError("a check ends with a code")
