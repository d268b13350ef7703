"""Writes docs/reference/cli.md from the parsers: ``python -m tests.project.write_cli_docs``."""

import argparse
from pathlib import Path

from sdbench.cli.main import COMMANDS, EXIT_CODES, HELP, build_parser

PATH = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def format_cli_docs() -> str:
    """Return the page: every command with its arguments, and the exit codes."""
    lines = ["# Commands", "", "Written from the parsers by `python -m tests.project.write_cli_docs`.", ""]
    for group, commands in COMMANDS.items():
        lines += [f"## {group.capitalize()}", ""]
        for command in commands:
            lines += _describe(command)
    return "\n".join([*lines, "## Exit codes", "", "```", EXIT_CODES.rstrip(), "```", ""])


def _describe(command: str) -> list[str]:
    lines = [f"### sdbench {command}", "", f"{HELP[command][0].upper()}{HELP[command][1:]}.", ""]
    rows = [
        f"| {_name(action)} | {_meaning(action)} |"
        for action in build_parser(command)._actions
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
    ]
    return [*lines, "| argument | meaning |", "|---|---|", *rows, ""]


def _name(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    takes_value = action.nargs != 0
    if not action.option_strings:
        return f"`{value}`".replace("|", "\\|")
    return ", ".join(f"`{name}{f' {value}' if takes_value else ''}`" for name in action.option_strings).replace(
        "|", "\\|"
    )


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "sdbench"}
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(format_cli_docs(), encoding="utf-8")
