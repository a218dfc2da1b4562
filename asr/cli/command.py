"""Commands as typer makes them, and what they lack: argument help, advice on missing values."""

import inspect
from itertools import pairwise
from typing import Any

import click
from typer.core import TyperCommand


class Command(TyperCommand):
    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        assert self.callback is not None
        declared = inspect.signature(self.callback).parameters
        for argument in self.params:  # click 8.5 and later drop the help that typer gave them
            if isinstance(argument, click.Argument):
                argument.help = declared[str(argument.name)].annotation.__metadata__[0].help

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing here: typer shows the arguments before the options, and click 8.5 would once more."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Wrong usage if an option comes without its value; click would take the option after it for that."""
        options = {name: option for option in self.params for name in option.opts if isinstance(option, click.Option)}
        for word, following in pairwise([*args, ""]):
            if word in options and not options[word].is_flag and following in ("", *options):
                ctx.fail(f"{word} needs a value: {options[word].help}")
        return super().parse_args(ctx, args)
