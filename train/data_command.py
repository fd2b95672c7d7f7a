"""``fbkit data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, say_next, stdout
from fbkit.errors import require

FIRST = 20  # clients in the table unless all are wanted


def data(
    recipe: Annotated[
        Path | None, typer.Argument(help="TOML recipe; without one, the recipe that fbkit ships.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make for clients.csv and a picture of it.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help=f"List all clients, not the first {FIRST}.")] = False,
) -> None:
    """Show what each client gets by a recipe."""
    require("torch", "train")
    require("pydantic", "train")
    if out:
        require("matplotlib", "bench")
    from fbkit.files import refuse_existing, whole_folder
    from fbkit.train.client_table import clients_for_people, describe_clients, describe_data, tabulate, write_table
    from fbkit.train.partition import partition
    from fbkit.train.recipe import check_clients, load_recipe
    from fbkit.train.sources import load_dataset

    if out:
        refuse_existing(out)
    wanted = load_recipe(recipe, settings or ())
    with Reporter() as reporter:
        dataset = load_dataset(wanted.data, wanted.seed, reporter)
        clients = partition(dataset, wanted.clients, wanted.seed)
        table = tabulate(dataset, clients)
    if out:
        from fbkit.train.client_plot import save_clients

        with whole_folder(out) as folder:
            write_table(table, folder / "clients.csv")
            save_clients(table, folder)
    for line in (*describe_data(dataset, wanted.data.source), *describe_clients(table)):
        stdout.print(line)
    first = len(table.names) if everybody else FIRST
    stdout.print(clients_for_people(table, first, stdout.width), soft_wrap=False)
    if first < len(table.names):
        stdout.print(f"the first {first} of {len(table.names)} clients; --all lists all")
    if out:
        stdout.print(f"clients: {out / 'clients.csv'}, picture: {out / 'clients.png'}, {out / 'clients.svg'}")
    try:
        check_clients(wanted, len(table.names))  # where clients come with the data, only now is their number known
    except ValueError as error:
        reporter.line(f"to train by this recipe, change it: {error}")
        return
    changes = [word for setting in settings or () for word in ("--set", setting)]
    say_next("train", *([recipe] if recipe else []), *changes, "--out", "RUN")
