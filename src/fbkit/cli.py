"""The ``fbkit`` command: which commands there are, and how errors reach people."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Annotated

import typer

import fbkit
from fbkit.benchmarks.commands.compare import compare
from fbkit.benchmarks.commands.convergence import convergence
from fbkit.benchmarks.commands.demo import demo
from fbkit.benchmarks.commands.device import device
from fbkit.benchmarks.commands.export import export_matrix
from fbkit.benchmarks.commands.native import native_bench
from fbkit.benchmarks.commands.paper import paper
from fbkit.benchmarks.commands.personalize import personalize_bench
from fbkit.benchmarks.commands.remote_device import remote_bench
from fbkit.benchmarks.commands.report import report
from fbkit.benchmarks.commands.scale import scale
from fbkit.benchmarks.commands.solvers import solvers
from fbkit.benchmarks.commands.train_speed import train_speed
from fbkit.console import speaks_for_all
from fbkit.device_runtime.commands.check import check
from fbkit.device_runtime.commands.deploy import deploy
from fbkit.device_runtime.commands.evaluate import evaluate
from fbkit.device_runtime.commands.inspect import inspect
from fbkit.device_runtime.commands.keygen import keygen
from fbkit.device_runtime.commands.pack import pack
from fbkit.device_runtime.commands.personalize import personalize
from fbkit.device_runtime.commands.predict import predict
from fbkit.device_runtime.commands.profile import profile
from fbkit.device_runtime.commands.remote import remote
from fbkit.device_runtime.commands.sign import sign
from fbkit.device_runtime.commands.studio import studio
from fbkit.device_runtime.commands.unpack import unpack
from fbkit.device_runtime.commands.watch import watch
from fbkit.errors import Interrupted, UserError
from fbkit.export.command import export
from fbkit.train.command import train
from fbkit.train.data_command import data
from fbkit.train.evaluate_command import evaluate_run

app = typer.Typer(
    name="fbkit",
    help="Train a body for everybody on a cluster; personalize a small head on each device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    *(data, train, evaluate_run, export),
    *(keygen, sign, pack, unpack),
    *(inspect, check, personalize, predict, evaluate, studio, watch, deploy, demo),
):
    app.command()(command)

app.add_typer(profile, name="profile")
app.add_typer(remote, name="remote")
remote.command("bench")(remote_bench)

bench = typer.Typer(help="Measure.", no_args_is_help=True)
bench.command()(convergence)
bench.command()(device)
bench.command()(report)
bench.command()(compare)
bench.command()(paper)
bench.command("train")(train_speed)
bench.command()(scale)
bench.command()(solvers)
bench.command("export")(export_matrix)
bench.command("native")(native_bench)
bench.command("personalize")(personalize_bench)
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
    interrupted = False

    def note_and_interrupt(number: int, frame: FrameType | None) -> None:
        # Libraries turn a KeyboardInterrupt into errors of their own; this remembers what it was.
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note_and_interrupt)
    try:
        code = app(arguments, prog_name="fbkit", standalone_mode=False)
        if interrupted:
            code = _say("interrupted", 130)
    except BaseException as error:
        if os.environ.get("FBKIT_DEBUG"):
            traceback.print_exc()
        if isinstance(error, Interrupted):
            code = _say(str(error), 130)
        elif interrupted:
            code = _say("interrupted", 130)
        elif isinstance(error, UserError):
            code = _say(str(error), 2)
        elif hasattr(error, "format_message"):  # typer's for a bad command line; an older typer raises click's
            code = _say(" ".join(error.format_message().split()), 2)
        elif isinstance(error, OSError) and error.strerror:  # a full disk, a folder that may not be written
            code = _say(f"{error.filename or 'standard output or a file'}: {error.strerror}", 2)
        else:
            raise
    sys.exit(code)


def _say(message: str, code: int) -> int:
    if message and speaks_for_all():
        typer.echo(f"fbkit: {message}", err=True)
    return code
