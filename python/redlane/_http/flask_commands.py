"""`flask redlane …`: the command line, on the application's server."""

from __future__ import annotations

import click

__all__ = ["commands"]


def commands(url: str | None) -> click.Command:
    """The command; its arguments are those of `python -m redlane`."""

    @click.command(
        "redlane",
        context_settings={
            "ignore_unknown_options": True,
            "help_option_names": [],  # --help is redlane's own
        },
        add_help_option=False,
        short_help="Looks at what redlane uses, and measures it.",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def redlane(arguments: tuple[str, ...]) -> None:
        from redlane._cli import main

        before = () if url is None or "--url" in arguments else ("--url", url)
        raise SystemExit(main([*before, *arguments]))

    return redlane
