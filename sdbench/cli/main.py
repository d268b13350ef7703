"""``sdbench``: the table of commands, and how one is run."""

import argparse
import difflib
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from sdbench import __version__, exit_codes
from sdbench.cli.output import complain, show
from sdbench.errors import EnvironmentProblem, UserError

# Group -> command -> one line of help. The module of a command is imported only when it is chosen.
COMMANDS: dict[str, dict[str, str]] = {
    "measure": {
        "run": "run a manifest, or resume an unfinished run",
        "ab": "measure two settings, interleaved, until it is clear which is faster",
        "bisect": "find the first slower one of an ordered list of settings, images or packages",
        "plan": "list the experiments, which are skipped and why, with rough time and memory",
        "fetch": "download the pinned weights of a manifest, to measure without network",
        "fleet": "run a manifest on one machine of each kind of a cluster",
    },
    "compare": {
        "compare": "compare two runs: faster, slower or same, with an interval",
        "trend": "follow one machine over the versions of its driver, torch, image, ...",
        "claims": "check a paper's claims against measured runs",
        "diff": "show what differs between the fingerprints of two runs",
        "selfcheck": "measure the false alarms and coverage of sdbench's verdicts",
    },
    "share": {
        "report": "write one HTML file about one or more runs",
        "site": "write a static site of many runs, with a feed of regressions",
        "publish": "publish redacted runs to a folder or bucket",
        "pull": "download published runs",
        "verify": "check what can be proven about a run",
        "import": "turn a CSV file of the 2022 study's tool into records",
    },
    "inspect": {
        "pipelines": "list the pipelines, or show the components of one: parameters, weights, work",
        "query": "run SQL over runs, results and samples",
        "validate": "check manifests and records",
        "schema": "print the JSON Schema of manifests or records, for editors",
        "ceilings": "measure what this machine reaches: matrix products, memory, copies, launches",
        "doctor": "show what this machine has and what is missing, with hints",
        "fingerprint": "show this machine's fingerprint",
    },
}
HELP = {name: line for group in COMMANDS.values() for name, line in group.items()}

EXIT_CODES = """exit codes:
  0    success; out of memory is a result, so it counts as success
  1    fetch --check: weights are missing; selfcheck: a bar is not met
  2    invalid input: one line with what and where
  3    something is missing on this machine: one line with what, and a hint
  4    the run ended, but some experiment failed or timed out; its record is complete
  10   compare, ab: the candidate is slower somewhere (--fail-on chooses what makes 10, 11 and 12);
       bisect: the first one that changed is known
  11   compare, ab: inconclusive somewhere; bisect: not resolved
  12   compare, ab: something cannot be compared
  130  interrupted; finished launches are sealed, and the same `sdbench run` resumes
"""


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest choice or option."""

    def error(self, message: str) -> NoReturn:
        """Exit with a message that names the nearest option to an unknown one."""
        problem, _, word = message.partition(": ")
        if problem == "unrecognized arguments" and word.startswith("-"):
            nearest = difflib.get_close_matches(word.split()[0].partition("=")[0], self._option_string_actions, n=1)
            message += "".join(f"; did you mean {name}?" for name in nearest)
        super().error(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"invalid choice {str(value)!r}: {_suggest(str(value), choices)}")


def build_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    parser = Parser(prog=f"sdbench {command}", description=f"{HELP[command][0].upper()}{HELP[command][1:]}.")
    module_of(command).add_arguments(parser)
    return parser


def module_of(command: str) -> Any:
    """Return the module of a command: its ``add_arguments`` and ``execute``."""
    return import_module(f"sdbench.cli.{'import_' if command == 'import' else command}")


def format_help() -> str:
    """Return what ``sdbench --help`` prints."""
    width = max(map(len, HELP))
    groups = (
        f"{group}:\n" + "".join(f"  {name:{width}}  {line}\n" for name, line in commands.items())
        for group, commands in COMMANDS.items()
    )
    head = (
        "usage: sdbench [--help] [--version] COMMAND ...\n\n"
        "Measure Stable Diffusion inference, and keep a record that others can repeat and compare.\n"
    )
    return "\n".join((head, *groups, "sdbench COMMAND --help describes a command.\n", EXIT_CODES))


def run_and_exit() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    command, *rest = arguments or ("",)
    if command in ("-h", "--help"):
        show(format_help(), end="")
    elif command == "--version":
        show(f"sdbench {__version__}")
    elif command not in HELP:
        problem = f"unknown command {command!r}: {_suggest(command, HELP)}" if command else "a command is required"
        complain(f"{problem}; sdbench --help lists all")
        return exit_codes.USER_ERROR
    else:
        return _run(command, rest)
    return exit_codes.OK


def _run(command: str, arguments: Sequence[str]) -> int:
    try:
        options = build_parser(command).parse_args(arguments)
        code = int(module_of(command).execute(options))
        sys.stdout.flush()
    except (UserError, EnvironmentProblem) as error:
        complain(error)
        return exit_codes.USER_ERROR if isinstance(error, UserError) else exit_codes.ENVIRONMENT
    except KeyboardInterrupt:
        complain("interrupted")
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`sdbench ... | head`): nobody is left to read it.
        _drop_output()
        return exit_codes.OK
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        complain(f"cannot write the output: {error.strerror}; free some space")
        return exit_codes.ENVIRONMENT
    return code


def _drop_output() -> None:
    """Let what is still buffered go nowhere, or Python would fail to write it on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _suggest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    nearest = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"choose from {', '.join(names)}"
