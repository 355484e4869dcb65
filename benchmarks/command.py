"""A function as a command of its own; what the user can mend is told in one sentence."""

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape


def run(main: Callable[..., Any]) -> None:
    """Runs it with what the command line says.

    Args:
      main: its arguments are the options, as typer reads them.

    Raises:
      SystemExit: with 1 where it refuses (ValueError, OSError, RuntimeError), else with what typer says.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        told = f"[bold red]benchmarks:[/bold red] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        sys.exit(1)
