"""The docstrings of jaxnas as Markdown: how the API pages read `Reference:`, doctests, and comments behind fields."""

import re
from pathlib import Path

import griffe

SECTION = re.compile(
    r"^(Reference|References|Checked|Deviates|Reference, Deviates|Returns):[ \n]+(.+(?:\n +.+)*)", re.M
)
DOCTEST = re.compile(r"(?:^>>> .*\n?(?:.+\n?)*)", re.M)


def markdown(text: str) -> str:
    """A docstring whose sections on one line are paragraphs, and whose doctests are code."""
    text = SECTION.sub(lambda found: f"\n**{found[1]}.** {' '.join(found[2].split())}\n", text)
    return DOCTEST.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)


def comment(attribute: griffe.Attribute) -> str:
    """What stands behind a field on its line."""
    if attribute.lineno is None or not isinstance(attribute.filepath, Path):
        return ""
    line = attribute.filepath.read_text(encoding="utf-8").splitlines()[attribute.lineno - 1]
    return line.partition("  # ")[2]


class Docstrings(griffe.Extension):
    """Rewrites every docstring; a field without one takes its comment."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs) -> None:
        if not attr.docstring and (text := comment(attr)):
            attr.docstring = griffe.Docstring(text, parent=attr)
