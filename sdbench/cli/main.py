"""``sdbench``: the commands and the exit codes."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from sdbench import exit_codes
from sdbench.cli.parser import build_parser
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.units import printable

# Command name -> the module that runs it, imported only when it is chosen: --help must cost nothing.
COMMANDS: dict[str, str] = {
    "run": "sdbench.cli.run",
    "plan": "sdbench.cli.plan",
    "validate": "sdbench.cli.validate",
    "schema": "sdbench.cli.schema",
    "fetch": "sdbench.cli.fetch",
    "launch": "sdbench.cli.launch",
    "fleet": "sdbench.cli.fleet",
    "report": "sdbench.cli.report",
    "site": "sdbench.cli.site",
    "index": "sdbench.cli.index",
    "query": "sdbench.cli.query",
    "publish": "sdbench.cli.publish",
    "pull": "sdbench.cli.pull",
    "verify": "sdbench.cli.verify",
    "preview-export": "sdbench.cli.preview_export",
    "compare": "sdbench.cli.compare",
    "ab": "sdbench.cli.ab",
    "trend": "sdbench.cli.trend",
    "selfcheck": "sdbench.cli.selfcheck",
    "diff": "sdbench.cli.diff",
    "claims": "sdbench.cli.claims",
    "import": "sdbench.cli.import_",
    "export": "sdbench.cli.export",
    "doctor": "sdbench.cli.doctor",
    "fingerprint": "sdbench.cli.fingerprint",
}


def run_and_exit() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    options.command_line = tuple(arguments)
    try:
        code = int(import_module(COMMANDS[options.command]).execute(options))
        sys.stdout.flush()
    except UserError as error:
        return _complain(error, exit_codes.USER_ERROR)
    except EnvironmentProblem as error:
        return _complain(error, exit_codes.ENVIRONMENT)
    except KeyboardInterrupt:
        print("sdbench: interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`sdbench ... | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OK
    return code


def _complain(error: Exception, code: int) -> int:
    print(printable(f"sdbench: {' '.join(str(error).split())}"), file=sys.stderr)
    return code
