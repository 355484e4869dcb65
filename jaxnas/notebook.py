"""The output box of a notebook: what a run says, and below it what moves, drawn anew in one place.

Where in the river: outside, under `terminal`. Knows lines and a display; IPython is imported where it runs already.
"""

import contextlib
import contextvars
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType

WIDTH = 100  # columns of the box
SECONDS = 0.25  # between two drawings of what moves
STYLE = "white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,'DejaVu Sans Mono',consolas,monospace"
Data = Mapping[str, str]  # kind of content -> content, as Jupyter has it


class Box(io.StringIO):
    """The file behind a console; after what is written to it, the console's record is shown as one output.

    Args:
      publish: shows this content, in place of what it showed before.
    """

    def __init__(self, publish: Callable[[Data], None]) -> None:
        super().__init__()
        self.publish = publish
        self.console = _recording(self)
        self.foot: Callable[[], RenderableType] | None = None  # what moves, below the lines

    def write(self, text: str) -> int:
        """Nothing: the console records it."""
        return len(text)

    def flush(self) -> None:
        """Shows the lines; while something moves, they are shown with it."""
        if not self.foot and not self.closed:
            self.draw()

    def draw(self) -> None:
        """Shows the lines and what moves."""
        parts = [self.console, _printed(self.foot())] if self.foot else [self.console]
        html = "".join(part.export_html(clear=False, inline_styles=True, code_format="{code}") for part in parts)
        text = "".join(part.export_text(clear=False) for part in parts)
        self.publish({"text/html": f'<pre style="{STYLE}">{html}</pre>', "text/plain": text.rstrip("\n")})

    @contextlib.contextmanager
    def moving(self, drawn: Callable[[], RenderableType], *, stays: bool = False) -> Iterator[None]:
        """Draws something again and again below the lines.

        Args:
          drawn: what to draw now.
          stays: whether the last of it is left there, as lines.
        """
        before, self.foot, over = self.foot, drawn, threading.Event()
        inside = contextvars.copy_context()  # the kernel knows by it to which cell an output belongs
        thread = threading.Thread(target=inside.run, args=(self._draw_until, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.foot = before
            self.console.print(drawn()) if stays else self.draw()

    def _draw_until(self, over: threading.Event) -> None:
        self.draw()
        while not over.wait(SECONDS):
            self.draw()


def console() -> Console:
    """A console of its own output box in the running cell; the box appears with the first line."""
    return Box(_published()).console


def _published() -> Callable[[Data], None]:
    """Shows content in one output of the running cell: the first time as a new one, then in its place."""
    from IPython.display import display

    handles: list[Any] = []

    def publish(data: Data) -> None:
        if handles:
            handles[0].update(data, raw=True)
        else:
            handles.append(display(data, raw=True, display_id=True))

    return publish


def _recording(file: io.StringIO) -> Console:
    return Console(
        file=file, record=True, width=WIDTH, force_jupyter=False, force_terminal=False, color_system="truecolor"
    )


def _printed(drawn: RenderableType) -> Console:
    """A console on which this was printed."""
    made = _recording(io.StringIO())
    made.print(drawn)
    return made
