"""A figure of matplotlib that shows itself in a notebook.

Where in the river: under `drawing`. Knows no genotype and no run.
"""

import io

import matplotlib
from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows, with `%matplotlib inline` and without."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()

    def svg(self) -> str:
        """The figure as SVG: equal figures give equal text."""
        content = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "jaxnas"}):
            self.savefig(content, format="svg", metadata={"Date": None})
        return content.getvalue()
