"""The ``fbkit`` command: which commands there are, and how errors reach people."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import fbkit
from fbkit.benchmarks.commands.convergence import convergence
from fbkit.benchmarks.commands.demo import demo
from fbkit.device_runtime.commands.check import check
from fbkit.device_runtime.commands.evaluate import evaluate
from fbkit.device_runtime.commands.inspect import inspect
from fbkit.device_runtime.commands.personalize import personalize
from fbkit.device_runtime.commands.predict import predict
from fbkit.errors import Interrupted, UserError
from fbkit.export.command import export
from fbkit.train.command import train

app = typer.Typer(
    name="fbkit",
    help="Train a body for everybody on a cluster; personalize a small head on each device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (train, export, inspect, check, personalize, predict, evaluate, demo):
    app.command()(command)

bench = typer.Typer(help="Measure.", no_args_is_help=True)
bench.command()(convergence)
app.add_typer(bench, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fbkit {fbkit.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere.")] = False,
) -> None:
    """Train a body for everybody on a cluster; personalize a small head on each device."""


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2, Ctrl-C in exit code 130."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ["FBKIT_DEBUG"] = "1"
    try:
        code = app(arguments, prog_name="fbkit", standalone_mode=False)
    except (UserError, typer.TyperException, Interrupted, KeyboardInterrupt, OSError) as error:
        if os.environ.get("FBKIT_DEBUG"):
            raise
        code = _explain(error)
    sys.exit(code)


def _explain(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        message, code = "interrupted", 130
    elif isinstance(error, Interrupted):
        message, code = str(error), 130
    elif isinstance(error, OSError) and error.strerror:  # a full disk, a folder that may not be written
        message, code = f"{error.filename or 'a file'}: {error.strerror}", 2
    elif isinstance(error, typer.TyperException):
        message, code = " ".join(error.format_message().split()), 2
    else:
        message, code = str(error), 2
    typer.echo(f"fbkit: {message}", err=True)
    return code
