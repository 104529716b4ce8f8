"""What the command lines share: `--help` with examples, and `--version`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from trainables.packages import version_of

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"pretext-study {version_of('pretext-study') or 'of unknown version'}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", metavar="", help="Print the version and exit.", callback=_print_version, is_eager=True),
]


def new_app(help: str | None = None, **options: Any) -> typer.Typer:
    """Return an application whose help is formatted by Rich and whose errors are not hidden behind frames.

    Args:
        help: What `--help` says first.
        options: Further arguments of `typer.Typer`.
    """
    settings: dict[str, Any] = {"rich_markup_mode": "rich", "pretty_exceptions_enable": False}
    return typer.Typer(help=help, context_settings=HELP_OPTIONS, **settings | options)


def command_with(*parts: RenderableType) -> type[TyperCommand]:
    """Return a class of commands whose `--help` ends with these parts, such as `examples`."""
    return _ending(TyperCommand, parts)


def group_with(*parts: RenderableType) -> type[TyperGroup]:
    """Return a class of command groups whose `--help` ends with these parts, such as `examples`."""
    return _ending(TyperGroup, parts)


def _ending(kind: type[Any], parts: Sequence[RenderableType]) -> type[Any]:
    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        kind.format_help(self, ctx, formatter)
        Console(highlight=False).print(*parts)

    return type(kind.__name__, (kind,), {"format_help": format_help})


def examples(commands: Mapping[str, str]) -> RenderableType:
    """Return each command below what it does."""
    return section("Examples", *(Text.assemble((f"# {what}\n", "dim"), how) for how, what in commands.items()))


def section(title: str, *lines: RenderableType) -> RenderableType:
    """Return lines below a title, indented like the texts of `--help`."""
    return Padding(Group(Text(title, style="bold"), *lines), (0, 0, 1, 1))


def names(described: Mapping[str, str]) -> Table:
    """Return names beside what each is, which is indented where it takes several lines."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, text in described.items():
        table.add_row(Text(name, style="cyan"), text)
    return table
