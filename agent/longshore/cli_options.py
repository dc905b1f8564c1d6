"""Options as Typer wants them, made from the one table in `config.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from longshore.config_layers import Flags
from longshore.config_options import CONFIG, OPTIONS, Option

_FORWARDED = "longshore.forwarded"


class Forwarding(TyperCommand):
    """A command that hands on what follows `--`, which Typer would take for more arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what follows `--` for `forwarded`, and parse the rest."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_FORWARDED] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Say in the help that there may be more."""
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]..."]


def forwarded(ctx: typer.Context) -> list[str]:
    """Return what followed `--`."""
    found: list[str] = ctx.meta[_FORWARDED]
    return found


def with_options(command: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options that it takes.

    The function gets them as `flags`, by the names of options; its other parameters stay as they
    are. So an option is described once, for its flag, its variable and its key in the file.
    """
    taken = [option for option in OPTIONS if not option.only or command in option.only]
    taken.append(CONFIG)

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "flags"]
        parameters = [*own, *map(_parameter, taken)]

        def wrapper(**arguments: Any) -> int:
            flags: Flags = {option.name: arguments.pop(option.parameter) for option in taken}
            return function(flags=flags, **arguments)

        wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    names = [option.flag, option.short] if option.short else [option.flag]
    annotation: Any
    if option.kind == "switch":
        # Both ways, so that a flag can take back what a variable or the file says.
        declaration = [f"{option.flag}/{option.off_flag}", *names[1:]]
        info = typer.Option(*declaration, help=option.help, show_default=False)
        annotation = Annotated[bool | None, info]
    else:
        info = typer.Option(*names, help=option.help, metavar=option.metavar, show_default=False)
        plain = list[str] | None if option.kind == "list" else str | None
        annotation = Annotated[plain, info]
    return inspect.Parameter(
        option.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
