"""The application that the commands join, and the arguments that they share."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="medsal",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Where in a scan did the network look? Saliency maps on the scan's own grid.",
)

BundlePath = Annotated[
    Path,
    typer.Argument(help="Folder of a MONAI bundle: configs/inference.json and models/model.pt."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; the default is a GPU where there is one.")
]
