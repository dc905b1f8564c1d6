"""Writes the pages: the only place that knows of templates."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from longshore.service.page_view import short

_HERE = Path(__file__).parent
STATIC = {
    "/static/style.css": _HERE / "static" / "style.css",
    "/static/page.js": _HERE / "static" / "page.js",
    "/static/icon.svg": _HERE / "static" / "icon.svg",
}
"""All that is served as it is, by its path; everybody may have it."""


def render(name: str, **values: Any) -> str:
    """Write a page; whatever it shows is escaped."""
    return _templates().get_template(f"{name}.html").render(values)


def login_form(message: str) -> str:
    """Write the page that asks for the token."""
    return render("login", message=message)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["short"] = short
    return environment
