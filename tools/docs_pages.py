"""A MkDocs hook: fills in the parts of the documentation that stand elsewhere.

`<!-- generated: api -->` becomes the reference, from the docstrings of the package that
is built in this tree; `<!-- generated: changes -->` becomes CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
ENTRY = re.compile(r"[\w., ]+: ")  # "ttl: seconds", at a line's beginning
SECTIONS = ("Args:", "Returns:", "Raises:", "Options:")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return MARK.sub(lambda match: GENERATORS[match[1]](), markdown)


def write_changes() -> str:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.partition("\n")[2].strip()  # the page has a title of its own


def public_names() -> dict[str, list[tuple[str, Any]]]:
    """Every public name by its kind, with what it is."""
    import redlane

    kinds: dict[str, list[tuple[str, Any]]] = {
        "Types": [],
        "Functions": [],
        "Ready-made": [],
        "Errors": [],
    }
    for name in redlane.__all__:
        value = getattr(redlane, name)
        if isinstance(value, type):
            kind = "Errors" if issubclass(value, BaseException) else "Types"
        else:
            kind = "Functions" if inspect.isroutine(value) else "Ready-made"
        kinds[kind].append((name, value))
    return kinds


def write_api() -> str:
    lines: list[str] = []
    for kind, names in public_names().items():
        lines += [f"## {kind}", ""]
        for name, value in names:
            lines += [f"### {name}", ""]
            if kind == "Ready-made":
                lines += [
                    f"An instance of [{type(value).__name__}]"
                    f"(#{type(value).__name__.lower()}) on the default client.",
                    "",
                ]
            elif kind == "Errors":
                bases = ", ".join(base.__name__ for base in value.__bases__)
                lines += [f"*{bases}*", "", *write_doc(value)]
            elif kind == "Functions":
                lines += [*write_signature(name, value), *write_doc(value)]
            else:
                lines += write_type(name, value)
    return "\n".join(lines)


def write_type(name: str, cls: type) -> Iterator[str]:
    yield from write_signature(name, cls)
    yield from write_doc(cls)
    for member, value in public_members(cls):
        yield f"#### {name}.{member}"
        yield ""
        if callable(value):
            yield from write_signature(member, value)
        yield from write_doc(value)


def public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Its own public methods and attributes, by name."""
    for member in sorted(vars(cls)):
        if not member.startswith("_") and not member.startswith("n_"):
            yield member, getattr(cls, member)


def write_signature(name: str, value: Any) -> Iterator[str]:
    if hasattr(value, "n_fields"):
        return  # a struct sequence: nobody makes one by hand
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return  # made by other calls, as a Pipeline is
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    if parameters and parameters[0].name in ("self", "type", "cls"):
        parameters = parameters[1:]
    signature = signature.replace(
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    yield from ("```text", f"{name}{signature}", "```", "")


def write_doc(value: Any) -> Iterator[str]:
    """A docstring as Markdown: its sections as lists, its literals as code."""
    for paragraph in (inspect.getdoc(value) or "").split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head.strip() in SECTIONS:
            yield from (f"**{head.strip()[:-1]}**", "", *write_items(rest), "")
        else:
            yield from (mark_up(paragraph), "")


def write_items(text: str) -> Iterator[str]:
    """The entries of a section, `name: text`, as a list; sentences as they are."""
    entries: list[list[str]] = []
    for line in inspect.cleandoc(text).splitlines():
        if not entries or ENTRY.match(line):
            entries.append([])
        entries[-1].append(line.strip())
    for lines in entries:
        bullet = "- " if ENTRY.match(lines[0]) else ""
        yield bullet + mark_up(" ".join(lines))


def mark_up(text: str) -> str:
    """reStructuredText's roles and literals as Markdown's; the rest as it stands."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"^:raises (\w+):", r"**Raises** `\1`:", text, flags=re.MULTILINE)
    parts = re.split(r"(\*\*Raises\*\*|``.+?``|`[^`]+`)", text, flags=re.DOTALL)
    return "".join(
        part if i % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", part)
        for i, part in enumerate(parts)
    )


GENERATORS = {"api": write_api, "changes": write_changes}
