import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.errors import UserError
from sdbench.lambda2022.csv_file import FULL as COLUMNS
from sdbench.lambda2022.csv_file import MAX_FILE_BYTES, LambdaTable, parse_lambda_csv
from sdbench.lambda2022.fields import is_cpu
from tests.lambda2022.lambda_rows import DIALECTS, Dialect, rows_of, write_lambda_csv

PLAIN = "NVIDIA RTX A6000,half,pytorch,2,9.03,8.79\n"
HEADER = "device,precision,runtime,n_samples,latency,memory\n"
FULL_HEADER = "device,precision,autocast,xformers,runtime,n_samples,latency,memory"
FULL = "NVIDIA RTX A6000,half,FALSE,True,pytorch,2,9.03,8.79\n"


def parse(text: str, steps: int | None = None) -> LambdaTable:
    return parse_lambda_csv(text.encode(), "old.csv", steps)


def problem_of(text: str, steps: int | None = None) -> str:
    table = parse(text, steps)
    (problem,) = table.problems
    return problem


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        HEADER + PLAIN,
        "\ufeff" + HEADER + PLAIN,
        (HEADER + PLAIN).replace("\n", "\r\n"),
        "\n" + HEADER + "\n  \n" + PLAIN + "\n",
        HEADER.replace(",", " , ") + PLAIN.replace(",", " , "),
        HEADER.replace("memory", "memory,") + PLAIN,
        HEADER.replace("memory", "memory,") + PLAIN.replace("8.79", "8.79,"),
        PLAIN.replace("8.79", "8.79,"),
        '"NVIDIA RTX A6000",half,pytorch,2,9.03,"8.79"',
    ],
)
def test_dialects_of_six_columns_give_the_same_row(text: str) -> None:
    table = parse(text)
    assert table.problems == ()
    (row,) = table.rows
    assert (row.device, row.latency_s, row.memory_bytes) == ("NVIDIA RTX A6000", 9.03, 8_790_000_000)
    assert (row.experiment.precision, row.experiment.backend, row.experiment.batch) == ("fp16", "pytorch", 2)
    assert (row.experiment.steps, row.autocast_recorded, row.experiment.autocast) == (50, False, "fp16")
    assert (row.experiment.attention, row.experiment.tf32) == ("eager", "convolutions")


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        FULL_HEADER + "\n" + FULL,
        FULL_HEADER + ",\n" + FULL,
        FULL_HEADER + ",\n" + FULL.replace("8.79", "8.79,"),
        FULL_HEADER.replace("xformers,runtime", "xformersruntime") + "\n" + FULL,
    ],
)
def test_dialects_of_eight_columns_give_the_same_row(text: str) -> None:
    table = parse(text)
    assert table.problems == ()
    (row,) = table.rows
    assert (row.experiment.autocast, row.experiment.attention, row.autocast_recorded) == ("off", "xformers", True)


def test_quoted_name_keeps_its_comma() -> None:
    (row,) = parse('"AMD EPYC 7352, 24-Core" ,single,onnx,1,223.19,0.0\n').rows
    assert row.device == "AMD EPYC 7352, 24-Core"
    assert row.experiment.backend == "onnxruntime"


@pytest.mark.parametrize("mark", ["-1,-1", "-1.0,-1.0", "-1,"])
def test_failure_mark_is_out_of_memory(mark: str) -> None:
    (row,) = parse(f"NVIDIA RTX A6000,single,pytorch,8,{mark}\n").rows
    assert (row.latency_s, row.memory_bytes) == (None, None)


@pytest.mark.parametrize("memory", ["0", "0.0", "", "-1", "not measured"])
@pytest.mark.parametrize("start", ["Xeon,single,pytorch", "NVIDIA RTX A6000,single,onnx"])
def test_memory_that_torch_does_not_see_is_unknown(start: str, memory: str) -> None:
    (row,) = parse(f"{start},1,458.97,{memory}\n").rows
    assert (row.latency_s, row.memory_bytes) == (458.97, None)


@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("Intel(R) Core(TM) i7-6850K @ 3.60GHz", True),
        ("AMD EPYC 7352 24-Core Processor", True),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", True),
        ("NVIDIA A100 80GB PCIe", False),
        ("Quadro RTX 8000", False),
        ("NVIDIA H100 PCIe MIG 4g.40gb", False),
    ],
)
def test_cpu_is_distinguished_from_a_gpu_by_its_name(name: str, cpu: bool) -> None:
    assert is_cpu(name) is cpu


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("X,half,pytorch,2,9.03", "wrong number of columns: 5 instead of 6"),
        ("X,half,pytorch,2,9.03,8.79,7", "wrong number of columns: 7 instead of 6"),
        ("X,half,pytorch,2,fast,8.79", "latency 'fast' is not a finite number"),
        ("X,half,pytorch,2,9.03,much", "memory 'much' is not a finite number"),
        ("X,half,pytorch,two,9.03,8.79", "n_samples 'two' is not an integer"),
        ("X,half,pytorch,2,nan,8.79", "latency 'nan' is not a finite number"),
        ("X,half,pytorch,2,inf,8.79", "latency 'inf' is not a finite number"),
        ("X,half,pytorch,2,1e999,8.79", "latency '1e999' is not a finite number"),
        ("X,half,pytorch,2,9.03,-inf", "memory '-inf' is not a finite number"),
        ("X,half,pytorch,2,1_0,8.79", "latency '1_0' is not a finite number"),
        ("X,double,pytorch,2,9.03,8.79", "precision 'double' is unknown; expected single or half"),
        ("X,half,jax,2,9.03,8.79", "runtime 'jax' is unknown; expected pytorch or onnx"),
        ("X,half,pytorch,2,0,8.79", "latency '0' is not positive; expected seconds, or -1"),
        ("X,half,pytorch,2,-2,-1", "latency '-2' is not positive"),
        ("X,half,pytorch,2,-1,8.79", "latency -1 marks out of memory, but memory is 8.79"),
        ("X,half,pytorch,2,9.03,-1", "memory -1 with a latency of 9.03"),
        ("X,half,pytorch,2,9.03,0", "memory 0 with a latency of 9.03"),
        ("X,half,pytorch,2,9.03,1e300", "memory '1e300' is out of range"),
        ("X,half,pytorch,0,9.03,8.79", "n_samples '0' is below 1"),
        ("X,half,pytorch,-3,9.03,8.79", "n_samples '-3' is below 1"),
        ("X,half,pytorch,5000,9.03,8.79", "n_samples is 5000"),
        (",half,pytorch,2,9.03,8.79", "device '' is not a device name"),
        ("a\x07b,half,pytorch,2,9.03,8.79", "device 'a\\x07b' is not a device name"),
        ("NVIDIA RTX A6000,half,pytorch,2,9.1,8.79", "is on line 1 already"),
        ('"X,half,pytorch,2,9.03,8.79', "wrong number of columns: 1 instead of 6"),
    ],
)
def test_bad_row_is_one_line_with_its_number_and_value(line: str, message: str) -> None:
    table = parse(PLAIN + line + "\n" + PLAIN.replace(",2,", ",4,"))
    (problem,) = table.problems
    assert problem.startswith("old.csv:2: ")
    assert message in problem
    assert "\n" not in problem
    assert len(table.rows) == 2, "the valid rows are still read"


def test_all_problems_are_collected() -> None:
    table = parse(PLAIN + "X,double,jax,0,nan,1\nY,half\n")
    assert [problem.split()[0] for problem in table.problems] == ["old.csv:2:"] * 4 + ["old.csv:3:"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("device,precision,runtime,n_samples,latency", "no column 'memory'"),
        ("device,precision,runtime,n_samples,memory", "no column 'latency'"),
        (HEADER.strip() + ",speed", "unknown column 'speed'"),
        (HEADER.strip() + ",latency", "column 'latency' is in the header twice"),
    ],
)
def test_bad_header_is_one_problem(header: str, message: str) -> None:
    problem = problem_of(header + "\n" + PLAIN)
    assert problem.startswith("old.csv:1: ")
    assert message in problem


def test_autocast_of_onnx_is_refused() -> None:
    assert "'autocast' applies only to backend: pytorch" in problem_of("X,half,TRUE,FALSE,onnx,1,2.0,\n")


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff", HEADER])
def test_file_without_rows_is_a_problem(text: str) -> None:
    assert re.search("no rows", problem_of(text))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"a\x00b", b"\xff\xfea\x00", "Größe".encode("latin-1")])
def test_binary_file_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"old\.csv: this is a binary file"):
        parse_lambda_csv(content, "old.csv")


def test_file_over_10_megabytes_is_refused() -> None:
    with pytest.raises(UserError, match="too large"):
        parse_lambda_csv(b"x" * (MAX_FILE_BYTES + 1), "old.csv")


def with_steps(*steps: int) -> str:
    lines = [f"X,single,pytorch,{batch},8.0,7.0,{count}" for batch, count in enumerate(steps, start=1)]
    return "\n".join([HEADER.strip() + ",steps", *lines])


def test_steps_come_from_their_column_or_the_option_or_are_50() -> None:
    assert [row.experiment.steps for row in parse(PLAIN).rows] == [50]
    assert [row.experiment.steps for row in parse(PLAIN, 30).rows] == [30]
    assert [row.experiment.steps for row in parse(with_steps(30, 30)).rows] == [30, 30]


def test_mixed_steps_are_a_problem_with_both_lines() -> None:
    table = parse(with_steps(50, 30, 50))
    (problem,) = table.problems
    assert problem == (
        "old.csv:3: mixed steps: 30 here, 50 on line 2, and they do not compare; "
        "import them separately with --steps 30 and --steps 50"
    )
    assert {row.experiment.steps for row in table.rows} == {50}


def test_option_takes_the_rows_of_its_steps_and_counts_the_others() -> None:
    table = parse(with_steps(50, 30, 50), 30)
    assert (len(table.rows), table.other_steps_count, table.problems) == (1, 2, ())
    assert "no row has 20 steps" in problem_of(with_steps(50, 30), 20)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_no_experiment_can_have_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"--steps {steps}: "):
        parse(PLAIN, steps)


@given(st.data(), st.sampled_from(DIALECTS))
def test_rows_come_back_from_every_dialect(data: st.DataObject, dialect: Dialect) -> None:
    rows = data.draw(rows_of(dialect))
    table = parse(write_lambda_csv(rows, dialect), rows[0].experiment.steps)
    assert table.problems == ()
    assert list(table.rows) == rows


@given(st.text(max_size=200))
def test_any_text_gives_problems_that_name_the_file(text: str) -> None:
    try:
        problems = parse(text.replace("\0", "")).problems
    except UserError as error:
        problems = (str(error),)
    assert problems
    assert all(re.match(r"old\.csv:(\d+:)? [^\n]+$", problem) for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "Quadro RTX 8000,single,1,12.50 s,7.69G\nIntel Core i7 CPU,single,1,4736.85 ms,0.0\n",
        "device,precision,n_samples,latency,memory\nRTX 8000,single,1,12.50 s,7.69 GB\nXeon,half,1,4736.85 ms,\n",
    ],
)
def test_early_files_have_units_in_their_cells_and_no_runtime(text: str) -> None:
    gpu, cpu = parse(text).rows
    assert (gpu.latency_s, gpu.memory_bytes, gpu.experiment.backend) == (12.5, 7_690_000_000, "pytorch")
    assert cpu.latency_s == pytest.approx(4.73685)
    assert cpu.memory_bytes is None


@pytest.mark.parametrize(
    ("latency", "memory"), [("12.5 min", "4.5"), ("12.5", "4.5 MB"), ("1e999 s", "4.5"), ("12.5s x", "4.5")]
)
def test_unknown_unit_is_a_problem(latency: str, memory: str) -> None:
    assert "is not a finite number" in problem_of(f"X,half,pytorch,2,{latency},{memory}\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"load": {"latency": 3}}', "this is JSON"),
        (' [\n{"a": 1}]', "this is JSON"),
        ("model,it_s,batch,gpu\nsome-model,7.1,1,some GPU\n", "the columns 'model, it_s, batch, gpu'"),
        ("a,b,c,d,e,f,g,h,i,j\n1,2,3,4,5,6,7,8,9,10\n" * 100, "the columns 'a, b, c, d, e, f, g, h, ...'"),
        (
            "name,it_s,batch,gpu,vram\n" + "run0,23.89,1,RTX 3090,24\n" * 200,
            "the columns 'name, it_s, batch, gpu, vram'",
        ),
    ],
)
def test_file_of_another_tool_is_one_line_that_names_what_it_is_and_what_is_expected(text: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("old.csv: ")
    assert what in message
    assert ", ".join(COLUMNS) in message
    assert "\n" not in message
