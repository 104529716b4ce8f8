"""Pictures: figures of the report, each with the line of Python that draws it again.

One call creates both the value and its code, so the two cannot differ.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import mark_simulated
from trainables import files

DOTS_PER_INCH = 130
COLORS = 256  # size of a PNG palette
WIDE = 7.0  # inches; a figure at least this wide takes the full width of the page

Function = Callable[..., Any]


@dataclass(frozen=True)
class Shown:
    """A value together with its Python expression.

    Attributes:
        value: The value.
        code: The expression, in terms of `study` and `findings`.
        functions: The functions that the expression calls.
    """

    value: Any
    code: str
    functions: tuple[Function, ...] = ()

    def query(self, where: str) -> Shown:
        """Select the rows of a frame, as `DataFrame.query` does."""
        return Shown(self.value.query(where), f"{self.code}.query({where!r})", self.functions)

    @property
    def empty(self) -> bool:
        """Whether the value is an empty frame."""
        return isinstance(self.value, pd.DataFrame) and self.value.empty


def call(function: Function, *arguments: Any, **options: Any) -> Shown:
    """Call a function with arguments that are plain values or `Shown`, and return its result as `Shown`."""
    shown = _Call(function, arguments, options)
    return Shown(shown.run(), shown.code, shown.functions)


@dataclass(frozen=True)
class Image:
    """A drawn picture.

    Attributes:
        source: The PNG as a data URI.
        width: Pixels.
        height: Pixels.
        wide: Whether it takes the full width of the page.
    """

    source: str
    width: int
    height: int
    wide: bool


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: Name of its PNG, without the suffix.
        alt: Description for readers who cannot see it.
        code: The Python line that draws it.
        functions: The functions that this line calls.
        draw: The same call, on a new figure.
        caption: What to see in it.
    """

    name: str
    alt: str
    code: str
    functions: tuple[Function, ...]
    draw: Callable[[], Axes]
    caption: str = ""

    def save(self, folder: Path) -> Image:
        """Draw the figure and write it to `folder/NAME.png`."""
        figure = self.draw().get_figure(root=True)
        assert figure is not None
        drawn = io.BytesIO()
        try:
            _lay_out(figure)
            figure.savefig(drawn, dpi=DOTS_PER_INCH)
            drawn = _indexed(drawn)
            width, height = (round(side * DOTS_PER_INCH) for side in figure.get_size_inches())
        finally:
            plt.close(figure)
        source = "data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode()
        files.write(folder / f"{self.name}.png", drawn.getvalue())
        return Image(source, width, height, wide=width >= WIDE * DOTS_PER_INCH)


def picture(name: str, alt: str, figure: Function, *arguments: Any, caption: str = "", **options: Any) -> Picture:
    """Return the picture that a figure function draws.

    Args:
        name: Name of its PNG.
        alt: Description for readers who cannot see it.
        figure: The figure function.
        arguments: Its arguments, plain values or `Shown`.
        caption: What to see in the figure.
        options: Its keyword arguments, plain values or `Shown`.
    """
    shown = _Call(figure, arguments, options)
    return Picture(re.sub(r"[^\w.-]+", "_", name), alt, shown.code, shown.functions, shown.run, caption)


def simulated(each: Picture) -> Picture:
    """Return the picture of a simulated study: the same figure, marked in red."""
    return replace(
        each,
        alt=f"Simulated. {each.alt}",
        code=f"{mark_simulated.__name__}({each.code})",
        functions=(mark_simulated, *each.functions),
        draw=lambda: mark_simulated(each.draw()),
    )


def imports(pictures: list[Picture]) -> list[str]:
    """Return the import lines for the pictures' code."""
    modules: dict[str, set[str]] = {}
    for function in {function for each in pictures for function in each.functions}:
        modules.setdefault(_public_module(function), set()).add(function.__name__)
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]


def _public_module(function: Function) -> str:
    """Return the shortest name of a module or of a package around it from which the function can be imported."""
    parts = function.__module__.split(".")
    names = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return next(name for name in names if getattr(sys.modules[name], function.__name__, None) is function)


@contextlib.contextmanager
def off_screen() -> Iterator[None]:
    """Use the Agg backend, which needs no display, and restore the previous one on exit."""
    before = matplotlib.get_backend(auto_select=False)
    if before is not None and "inline" in before:
        plt.switch_backend(before)  # at its first use, it makes IPython show figures, but only while it is in use
    plt.switch_backend("agg")
    try:
        yield
    finally:
        if before is not None:
            plt.switch_backend(before)


def _indexed(drawn: io.BytesIO) -> io.BytesIO:
    """Return a PNG with a palette of 256 colors, which is about half as large and looks the same."""
    smaller = io.BytesIO()
    image = (
        PIL.Image.open(drawn)
        .convert("RGB")
        .quantize(COLORS, method=PIL.Image.Quantize.MAXCOVERAGE, dither=PIL.Image.Dither.NONE)
    )
    image.save(smaller, "png", optimize=True)
    return smaller


def _lay_out(figure: Figure) -> None:
    """Run the layout engine once: `savefig` would draw the whole figure a second time for it."""
    figure.set_dpi(DOTS_PER_INCH)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


@dataclass(frozen=True)
class _Call:
    function: Function
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def code(self) -> str:
        inside = [_code(each) for each in self.arguments]
        inside += [f"{name}={_code(each)}" for name, each in self.options.items()]
        return f"{self.function.__name__}({', '.join(inside)})"

    @property
    def functions(self) -> tuple[Function, ...]:
        values = (*self.arguments, *self.options.values())
        used = [function for each in values if isinstance(each, Shown) for function in each.functions]
        return (self.function, *used)

    def run(self) -> Any:
        arguments = [_value(each) for each in self.arguments]
        return self.function(*arguments, **{name: _value(each) for name, each in self.options.items()})


def _code(argument: Any) -> str:
    return argument.code if isinstance(argument, Shown) else repr(argument)


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, Shown) else argument
