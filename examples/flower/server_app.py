"""The server's side of the app; the recipe lies beside this file and travels with it."""

from pathlib import Path

from fbkit.train.flower.server_app import make_server_app

app = make_server_app(Path(__file__).with_name("recipe.toml"))
