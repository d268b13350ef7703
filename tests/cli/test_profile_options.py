"""``--operators`` and ``--trace`` are short for settings, so that containers, other hosts and the record see them."""

import argparse

import pytest

from sdbench.cli import ab, run
from sdbench.cli.main import main
from sdbench.cli.options import read_plan_request
from sdbench.plan.make_plan import expand_request, request_arguments


@pytest.mark.parametrize("command", [run, ab])
def test_options_become_settings_of_the_protocol(command: object) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    request = read_plan_request(parser.parse_args(["smoke", "--operators", "--trace", "--set", "steps=1"]))
    assert request.settings == ("steps=1", "protocol.operators=always", "protocol.trace=true")
    assert "--set=protocol.trace=true" in request_arguments(request)
    for planned in expand_request(request):
        assert (planned.protocol.operators, planned.protocol.trace) == ("always", True)


def test_options_do_not_apply_to_containers_that_run_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--attach", "--trace"]) == 2
    assert "--trace does not apply with --attach; remove it" in capsys.readouterr().err
