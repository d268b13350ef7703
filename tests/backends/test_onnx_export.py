"""Exports and sessions that fail, really: the message names the part and the operator."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdbench.backends import onnx_export
from sdbench.backends.base import where_memory_ran_out
from sdbench.backends.onnx_cache import ExportFacts
from sdbench.backends.onnx_export import ExportFailed, ExportReply, export_in_child, write_graph
from sdbench.backends.onnx_parts import Traceable
from sdbench.backends.onnx_session import GraphRunner, SessionFailed, make_options, open_session
from sdbench.schema.experiment import Experiment

# torch's exporter warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")

TINY = Experiment(pipeline="tiny-sd", backend="onnxruntime")


@pytest.fixture(autouse=True)
def _tf32_as_in_a_new_process() -> None:
    """Undo what other tests set: the exporter reads torch's older switch, which raises once convolutions are IEEE."""
    import torch

    backends: Any = torch.backends
    backends.cudnn.conv.fp32_precision = "tf32"


def open_on_cpu(graph: Path) -> Any:
    return open_session("unet", graph, make_options(TINY, 1), "cpu", None)


def traceable(compute: Callable[[Any], Any]) -> Traceable:
    import torch

    class Module(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return compute(inputs[0])

    return Traceable(Module(), {"x": (torch.ones(3, 3), ())})


def save_model(path: Path, operator: str, element: int, inputs: int, shape: list[Any]) -> Path:
    from onnx import helper

    node = helper.make_node(operator, ["x"] * inputs, ["output"], name="the_node")
    return save_nodes(path, [node], (element, shape), element)


def save_nodes(path: Path, nodes: list[Any], x: tuple[int, list[Any]], output: int) -> Path:
    from onnx import helper, save

    ends = helper.make_tensor_value_info("x", *x), helper.make_tensor_value_info("output", output, None)
    graph = helper.make_graph(nodes, "graph", [ends[0]], [ends[1]])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_operator_without_a_translation_is_named(tmp_path: Path) -> None:
    import torch

    with pytest.raises(ExportFailed, match=r"the unet cannot be exported to ONNX: .* aten\.linalg_eig; use backend"):
        write_graph("unet", traceable(lambda x: torch.linalg.eigvals(x).real), tmp_path, 20)
    assert list(tmp_path.iterdir()) == []


def test_operator_of_another_library_is_named(tmp_path: Path) -> None:
    import torch

    @torch.library.custom_op("sdbench_test::frobnicate", mutates_args=())
    def frobnicate(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    frobnicate.register_fake(torch.empty_like)
    with pytest.raises(ExportFailed, match=r"the vae_decoder .* sdbench_test\.frobnicate; use backend"):
        write_graph("vae_decoder", traceable(frobnicate), tmp_path, 20)


def test_failure_without_an_operator_quotes_torch(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"the unet .*GuardOnDataDependentSymNode: Could not guard"):
        write_graph("unet", traceable(lambda x: x * 2 if x.sum() > 0 else x), tmp_path, 20)


def test_written_graph_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    write_graph("unet", traceable(lambda x: x @ x.T), tmp_path, 20)
    content = (tmp_path / "graph.onnx").read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", MemoryError, "was killed"),
        ("import sys; sys.exit(3)", ExportFailed, "ended with 3 and no answer"),
        (
            f"print({ExportReply(facts={}, failure='no frobnicate', out_of_memory=False).model_dump_json()!r})",
            ExportFailed,
            "no frobnicate",
        ),
        (
            f"print({ExportReply(facts={}, failure='too little', out_of_memory=True).model_dump_json()!r})",
            MemoryError,
            "too little",
        ),
    ],
)
def test_exporting_process_that_fails_is_an_error_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(onnx_export, "EXPORT_COMMAND", (sys.executable, "-c", program))
    with pytest.raises(error, match=message):
        export_in_child(TINY, tmp_path, 20, {"unet": tmp_path})


def test_exporting_process_may_print_as_it_pleases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
from sdbench.backends import onnx_export
onnx_export.export_parts = lambda request: print("a library prints") or {}
onnx_export.main()
"""
    monkeypatch.setattr(onnx_export, "EXPORT_COMMAND", (sys.executable, "-c", program))
    assert export_in_child(TINY, tmp_path, 20, {"unet": tmp_path}) == {}


def test_facts_survive_the_way_back_from_the_exporting_process() -> None:
    facts = ExportFacts(export_s=0.25, weights_digest="synthetic:0", parameter_count=1, weights_dtypes=("fp16",))
    reply = ExportReply(facts={"unet": facts}, failure="", out_of_memory=False)
    assert ExportReply.model_validate_json(reply.model_dump_json()) == reply


@pytest.mark.parametrize(
    ("operator", "element", "inputs"), [("Frobnicate", 1, 1), ("Conv", 16, 2), ("Sin", 16, 1)], ids=str
)
def test_session_that_cannot_be_made_names_part_and_operator(
    tmp_path: Path, operator: str, element: int, inputs: int
) -> None:
    graph = save_model(tmp_path / "graph.onnx", operator, element, inputs, [1, 1, 4, 4])
    with pytest.raises(SessionFailed, match=f"the operator {operator} of the unet"):
        open_on_cpu(graph)


def test_kernel_that_is_not_implemented_is_named(tmp_path: Path) -> None:
    from onnx import TensorProto

    # The operator takes bf16 since opset 13, and onnxruntime has no such kernel for the CPU.
    graph = save_model(tmp_path / "graph.onnx", "MatMul", TensorProto.BFLOAT16, 2, [4, 4])
    with pytest.raises(SessionFailed, match=r"the operator MatMul of the unet: .*NOT_IMPLEMENTED"):
        open_on_cpu(graph)


def test_damaged_graph_names_the_part(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(SessionFailed, match="onnxruntime cannot run the unet"):
        open_on_cpu(tmp_path / "graph.onnx")


def test_memory_that_runs_out_in_a_session_is_recognized(tmp_path: Path) -> None:
    import torch
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ConstantOfShape", ["x"], ["large"], name="fill"),
        helper.make_node("ReduceMax", ["large"], ["output"], name="reduce", keepdims=0),
    ]
    graph = save_nodes(tmp_path / "graph.onnx", nodes, (TensorProto.INT64, ["n"]), TensorProto.FLOAT)
    runner = GraphRunner("unet", open_on_cpu(graph), torch.device("cpu"))
    # 2^50 values of 4 bytes are more than any machine has.
    with pytest.raises(MemoryError, match="ran out of memory in the unet") as raised:
        runner.run({"x": torch.tensor([2**25, 2**25])}, lambda _item: ())
    assert where_memory_ran_out(raised.value) == "host"


@pytest.mark.parametrize(("opset", "attentions"), [(20, 0), (23, 1)])
def test_attention_is_one_operator_in_the_opset_for_cuda_and_gives_the_values_of_torch(
    tmp_path: Path, opset: int, attentions: int
) -> None:
    import onnx
    import torch

    def attend(x: torch.Tensor) -> torch.Tensor:
        heads = x.reshape(1, 2, 4, 8)
        return torch.nn.functional.scaled_dot_product_attention(heads, heads.flip(2), heads * 2)

    x = torch.linspace(-1, 1, 64).reshape(8, 8)
    write_graph("unet", replace(traceable(attend), inputs={"x": (x, ())}), tmp_path, opset)
    graph = onnx.load(tmp_path / "graph.onnx", load_external_data=False)
    assert [item.version for item in graph.opset_import if not item.domain] == [opset]
    assert [node.op_type for node in graph.graph.node].count("Attention") == attentions
    runner = GraphRunner("unet", open_on_cpu(tmp_path / "graph.onnx"), torch.device("cpu"))
    output = runner.run({"x": x}, lambda _item: (1, 2, 4, 8))["output"]
    assert torch.allclose(output, attend(x), atol=1e-6)
