"""The server's end of a Flower run."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.evaluation_report import print_evaluation
from fbkit.train.flower.federate import federate
from fbkit.train.flower.messages import GridChannel
from fbkit.train.flower.settings import read_recipe, read_settings


def make_server_app(recipe: Path) -> ServerApp:
    """A ServerApp that trains by the recipe in this file."""
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        with Reporter() as reporter:
            try:
                settings = read_settings(context.run_config)
                run = federate(read_recipe(recipe), settings, GridChannel(grid, settings.timeout), reporter)
            except UserError as error:
                raise UserError(str(error)) from None  # Flower prints a traceback; this makes it a short one
            print_evaluation(run.evaluation)
            reporter.line(f"run folder: {run.folder}")
            reporter.line(f"next: fbkit export {run.folder} --target onnx --out BUNDLE")

    app.main()(main)
    return app
