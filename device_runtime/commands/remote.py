"""``fbkit remote``: fbkit's commands on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, say_next
from fbkit.device_runtime.commands.evaluate import evaluate as evaluate_here
from fbkit.device_runtime.commands.options import BundleFolder, SignedBy, To
from fbkit.device_runtime.commands.personalize import personalize as personalize_here
from fbkit.device_runtime.commands.predict import predict as predict_here
from fbkit.errors import UserError
from fbkit.files import refuse_existing

_PASS_ON = {"ignore_unknown_options": True}

remote = typer.Typer(
    help="Run a command on a device to which the bundle was deployed.",
    no_args_is_help=True,
)

Given = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH... [OPTIONS]",
        help="As the command itself takes them. What is here is sent there for the time of the command; "
        "device:/PATH is there.",
    ),
]
ProfileThere = Annotated[str | None, typer.Option(help="Name of a profile that is kept there, or device:/PATH.")]


@remote.command(context_settings=_PASS_ON)
def personalize(
    bundle: BundleFolder,
    to: To,
    given: Given = None,
    profile: ProfileThere = "me",
    bring: Annotated[Path | None, typer.Option(help="Copy the profile into this folder here afterwards.")] = None,
    signed_by: SignedBy = None,
) -> None:
    """Fit the head there, and keep it in a profile there."""
    from fbkit.device_runtime.remote.deploying import open_link
    from fbkit.device_runtime.remote.running import bring_profile

    if bring is not None:
        refuse_existing(bring)
    code = _run(personalize_here, bundle, to, given or [], profile, signed_by)
    if bring is not None and code == 0 and profile is not None:
        with open_link(to) as link:
            bring_profile(link, profile, bring)
    if code == 0 and profile is not None and not {"--json", "--dry-run"} & set(given or []):
        say_next("remote", "evaluate", bundle, "OTHER_PICTURES", "--profile", profile, "--to", to)
    raise typer.Exit(code)


@remote.command(context_settings=_PASS_ON)
def predict(
    bundle: BundleFolder, to: To, given: Given = None, profile: ProfileThere = None, signed_by: SignedBy = None
) -> None:
    """Predict the classes of pictures there."""
    raise typer.Exit(_run(predict_here, bundle, to, given or [], profile, signed_by))


@remote.command(context_settings=_PASS_ON)
def evaluate(
    bundle: BundleFolder, to: To, given: Given = None, profile: ProfileThere = None, signed_by: SignedBy = None
) -> None:
    """Measure accuracy and loss there."""
    raise typer.Exit(_run(evaluate_here, bundle, to, given or [], profile, signed_by))


def _run(
    command: Callable[..., None],
    bundle: Path,
    to: str,
    given: list[str],
    profile: str | None,
    signed_by: Path | None,
) -> int:
    from fbkit.device_runtime.remote.deploying import open_link
    from fbkit.device_runtime.remote.running import check_profile_name, visiting

    if profile is not None:
        check_profile_name(profile)
    words = list(_words(command, given))
    say = Reporter(quiet="--json" in given).line  # not in a with block: the device may show bars of its own
    with open_link(to) as link, visiting(link, bundle, say, signed_by) as visit:
        there = [visit.path(word) if isinstance(word, Path) else word for word in words]
        if profile is not None:
            there += ["--profile", visit.profile(profile)]
        return visit.stream([command.__name__, visit.bundle, *there])


def _words(command: Callable[..., None], given: list[str]) -> Iterator[str | Path]:
    """Paths as such; options and their values as they are.

    Raises:
        UserError: the command has no such option.
    """
    takes_value = _options(command)
    is_value = False
    for word in given:
        name = word.partition("=")[0]
        if is_value:
            is_value = False
            yield word
        elif not word.startswith("-"):
            yield Path(word)
        elif name in takes_value:
            is_value = takes_value[name] and name == word
            yield word
        else:
            raise UserError(f"no such option: {name}; fbkit {command.__name__} --help has those that there are")


def _options(command: Callable[..., None]) -> dict[str, bool]:
    """Names of a command's options, and whether a value comes behind."""
    app = typer.Typer()
    app.command()(command)
    options = [each for each in typer.main.get_command(app).params if each.param_type_name == "option"]
    return {
        name: not getattr(each, "is_flag", False) for each in options for name in (*each.opts, *each.secondary_opts)
    }
