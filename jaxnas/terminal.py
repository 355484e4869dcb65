"""What is written on a terminal: the only door to rich, which takes brackets and colons of a text for markup.

Where in the river: outside. Knows lines and tables; no run, no number.
"""

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Column, Table
from rich.text import Text

Part = str | tuple[str, str]  # a text, or a text and its style


def say(console: Console, *parts: Part) -> None:
    """Writes texts as they are, as one line, whatever brackets and colons a user's names have.

    Args:
      console: where.
      parts: texts, each alone or with its style.
    """
    console.print(Text.assemble(*parts), highlight=False, soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """One sentence that should be seen.

    Args:
      console: where.
      text: the sentence.
    """
    say(console, ("warning:", "bold yellow"), f" {text}")


def table(*heads: str, title: str | None = None, unbroken: tuple[str, ...] = (), lines: bool = False) -> Table:
    """An empty table.

    Args:
      heads: of the columns.
      title: above it.
      unbroken: heads of columns whose cells stay on one line.
      lines: whether lines stand between rows.
    """
    columns = [Column(Text(head), no_wrap=head in unbroken) for head in heads]
    return Table(*columns, title=title and Text(title), title_justify="left", show_lines=lines)


def add(shown: Table, *cells: str, end: bool = False) -> None:
    """Adds a row of texts as they are.

    Args:
      shown: the table.
      cells: one for each column.
      end: whether a line follows.
    """
    shown.add_row(*map(Text, cells), end_section=end)


def field(form: str, style: str = "none") -> TextColumn:
    """A column of a progress bar.

    Args:
      form: what it shows of a task, as `str.format` fills it.
      style: of the text.
    """
    return TextColumn(form, style=style, markup=False)
