"""What makes a difference: the right operator, replaced and repeated ones, and when nothing is explained."""

from random import Random

import pytest

from sdbench.compare.operator_families import family_of, short_name
from sdbench.compare.policy import Judgement
from sdbench.compare.why import Why, describe_moved, explain_difference
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.operators import OUTSIDE, REST, OperatorTable
from sdbench.schema.outcome import Launch
from sdbench.schema.record import Record
from sdbench.schema.workload_results import AllocatorEvents
from tests.operator_tables import SECONDS, Rows, compare_arms, make_arm, make_row, make_table, profile, slow_down

CONVOLUTION = "aten::mkldnn_convolution"
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
KINDS = {
    "convolution": (CONVOLUTION,),
    "attention": (ATTENTION,),
    "normalisation": ("aten::native_group_norm",),
    "outside operators": (OUTSIDE,),
}
TRIES = 20


def explain(
    after: Rows,
    seed: int = 0,
    *,
    before: Rows = SECONDS,
    paces: tuple[float, float] = (1.0, 1.0),
    scatter: float = 0.0,
) -> Why:
    """Return why the candidate takes ``after``; its table and the baseline's were made at two paces of the machine."""
    noise = Random(seed)
    tables = [
        Known(value=profile(rows, noise, pace=pace, scatter=scatter))
        for rows, pace in zip((before, after), paces, strict=True)
    ]
    return explain_tables(before, after, (tables[0], tables[1]), noise)


def explain_tables(
    before: Rows, after: Rows, tables: tuple[Reading[OperatorTable], Reading[OperatorTable]], noise: Random
) -> Why:
    arms = make_arm("a", before, tables[0], noise), make_arm("b", after, tables[1], noise)
    return compare_arms(*arms).experiments[0].why


def judge(first: Record, second: Record) -> Judgement:
    return compare_arms(first, second).experiments[0].judgements[0]


@pytest.mark.parametrize("family", KINDS)
def test_operator_that_became_slower_leads_and_three_rows_explain_it(family: str) -> None:
    explained = [explain(slow_down(KINDS[family], 0.1), seed, paces=(1.1, 0.95), scatter=0.03) for seed in range(TRIES)]
    assert sum(why.rows[0].family == family for why in explained) >= TRIES - 1
    assert sum(sum(row.share for row in why.rows[:3]) for why in explained) / TRIES >= 0.9
    assert sum(why.status == "explained" and why.families[0].name == family for why in explained) >= TRIES - 1


def test_changes_of_rows_phases_and_families_add_up_to_the_difference() -> None:
    why = explain(slow_down((CONVOLUTION,), 0.1), paces=(1.2, 0.9), scatter=0.05)
    assert sum(row.change_s for row in why.rows) + why.others_s == pytest.approx(why.difference_s)
    for parts in (why.phases, why.families):
        assert sum(part.change_s for part in parts) == pytest.approx(why.difference_s)
        assert sum(part.share for part in parts) == pytest.approx(1)


def test_operator_that_became_faster_is_explained_as_well() -> None:
    why = explain(SECONDS, before=slow_down((ATTENTION,), 0.2))
    assert why.difference_s < 0
    assert why.rows[0].family == "attention"
    assert why.sentence.startswith("-1")


@pytest.mark.parametrize("seed", range(TRIES))
def test_identical_arms_have_nothing_to_explain(seed: int) -> None:
    why = explain(SECONDS, seed, scatter=0.1)
    assert (why.status, why.rows, why.families) == ("nothing", (), ())
    assert why.sentence.startswith("Nothing to explain")


def test_large_difference_that_is_not_shown_blames_nobody() -> None:
    noise = Random(1)
    table = Known(value=profile(SECONDS, noise))
    arms = [make_arm(arm, SECONDS, table, noise) for arm in ("a", "b")]
    judgement = judge(arms[0], arms[1]).model_copy(update={"verdict": "inconclusive", "ratio": 1.3})
    first, second = ([(arm, arm.results[0])] for arm in arms)
    why = explain_difference(first, second, judgement)
    assert why.status == "nothing"
    assert why.sentence == "Nothing to explain: no difference is shown, the verdict is inconclusive."


def test_difference_of_all_operators_is_the_machines() -> None:
    slower = {key: (1.12 * self_s, calls) for key, (self_s, calls) in SECONDS.items()}
    why = explain(slower, scatter=0.02)
    assert why.status == "uniform"
    assert "the machine or its clock, not an operator" in why.sentence


def test_tables_that_scatter_by_more_than_the_difference_explain_nothing() -> None:
    slower = {key: (1.03 * self_s, calls) for key, (self_s, calls) in SECONDS.items()}
    statuses = [explain(slower, seed, scatter=0.4).status for seed in range(TRIES)]
    assert statuses.count("explained") <= TRIES // 4


def test_profiled_calls_that_contradict_the_timed_ones_explain_nothing() -> None:
    why = explain(slow_down((CONVOLUTION,), 0.1), paces=(1.0, 2.5))
    assert why.status == "not explained"
    assert "the profiled calls took 2." in why.sentence


@pytest.mark.parametrize(("missing", "role"), [(0, "baseline"), (1, "candidate")])
def test_missing_table_is_named_with_its_reason(missing: int, role: str) -> None:
    noise = Random(2)
    slower = slow_down((CONVOLUTION,), 0.1)
    tables: list[Reading[OperatorTable]] = [Known(value=profile(rows, noise)) for rows in (SECONDS, slower)]
    tables[missing] = Unknown(reason="this backend has no profiler")
    why = explain_tables(SECONDS, slower, (tables[0], tables[1]), noise)
    assert why.status == "not explained"
    assert f"the {role} has no table of operators: this backend has no profiler" in why.sentence


@pytest.mark.parametrize(("short", "role"), [(0, "baseline"), (1, "candidate")])
def test_table_that_does_not_add_up_explains_nothing(short: int, role: str) -> None:
    noise = Random(2)
    slower = slow_down((CONVOLUTION,), 0.1)
    tables = [profile(rows, noise) for rows in (SECONDS, slower)]
    tables[short] = tables[short].model_copy(update={"call_s": 2 * tables[short].call_s})
    why = explain_tables(SECONDS, slower, (Known(value=tables[0]), Known(value=tables[1])), noise)
    assert why.status == "not explained"
    assert f"the {role}'s table does not add up: its rows are 50% of the profiled call" in why.sentence


def test_replaced_operator_is_named_with_what_took_its_place() -> None:
    after = dict(SECONDS)
    del after["denoise_step", ATTENTION]
    after |= {("denoise_step", "aten::bmm"): (0.2, 60), ("denoise_step", "aten::_softmax"): (0.06, 60)}
    why = explain(after)
    assert why.rows[0].calls == "60"
    assert "60 calls of _scaled_dot_product_flash_attention_for_cpu became 60 of bmm + _softmax" in why.sentence
    assert "% of it is attention" in why.sentence


def test_replaced_kernel_of_a_gpu_is_named() -> None:
    def make(kernel: str, self_s: float) -> Known[OperatorTable]:
        rows = [
            make_row("denoise_step", "aten::_flash_attention", self_s, 32, kernel=kernel),
            make_row(
                "denoise_step", "aten::cudnn_convolution", 0.4, 80, kernel="void implicit_convolve_sgemm<float>(int)"
            ),
            make_row("denoise_step", OUTSIDE, 0.02, 0),
        ]
        return Known(value=make_table(rows))

    before = {("denoise_step", ATTENTION): (0.2, 32), ("denoise_step", CONVOLUTION): (0.4, 80)}
    after = before | {("denoise_step", ATTENTION): (0.3, 32)}
    tables = (
        make("void pytorch_flash::flash_fwd_kernel<T<64> >(P)", 0.2),
        make("fmha_cutlassF_f16_sm80(P::Params)", 0.3),
    )
    why = explain_tables(before, after, tables, Random(3))
    assert "32 calls of flash_fwd_kernel became 32 of fmha_cutlassF_f16_sm80" in why.sentence
    assert why.families[0].name == "attention"
    assert why.families[0].share == pytest.approx(1, abs=0.1)


def test_operator_that_is_called_more_often_is_named_with_both_counts() -> None:
    after = SECONDS | {("denoise_step", CONVOLUTION): (0.39, 210)}
    why = explain(after)
    assert why.rows[0].calls == "140 → 210"
    assert "mkldnn_convolution in denoising steps was called 210 times instead of 140" in why.sentence


def test_row_that_may_be_in_the_rest_of_the_other_table_is_not_called_gone() -> None:
    noise = Random(4)
    slower = slow_down((CONVOLUTION,), 0.1)
    tables = [profile(rows, noise) for rows in (SECONDS, slower)]
    short = make_row("denoise_step", "aten::gelu", 0.001, 30)
    rest = make_row("denoise_step", REST, 0.002, 90)
    tables = [make_table((*tables[0].rows, short, rest)), make_table((*tables[1].rows, rest))]
    why = explain_tables(SECONDS, slower, (Known(value=tables[0]), Known(value=tables[1])), noise)
    assert not any("gelu" in row.name for row in why.rows)
    assert why.rows[0].family == "convolution"


def test_what_else_differs_is_remarked() -> None:
    def retry(launch: Launch) -> Launch:
        events = Known(value=AllocatorEvents(retries=2, caught_out_of_memory=0))
        update = {"allocator": events, "host_bound_ratio": Known(value=0.6), "load_s": 9.0}
        return launch.model_copy(update=update)

    def calm(launch: Launch) -> Launch:
        events = Known(value=AllocatorEvents(retries=0, caught_out_of_memory=0))
        return launch.model_copy(update={"allocator": events, "host_bound_ratio": Known(value=0.0)})

    noise = Random(5)
    slower = slow_down((CONVOLUTION,), 0.1)
    tables = [profile(rows, noise) for rows in (SECONDS, slower)]
    ran = [table.model_copy(update={"ran": {"attention": name}}) for table, name in zip(tables, "xy", strict=True)]
    first = make_arm("a", SECONDS, Known(value=ran[0]), noise, calm)
    second = make_arm("b", slower, Known(value=ran[1]), noise, retry)
    remarks = compare_arms(first, second).experiments[0].why.remarks
    assert remarks == (
        "allocator retries in the timed calls: 32, before 0; memory was short",
        "the GPU waited for the host in 60% of the denoiser calls, before in 0%",
        "attention ran as y, before as x",
        "cold start, in no timed call: loading took 9.00 s, before 1.50 s",
    )


def test_mark_of_a_trend_names_the_operators_in_a_few_words() -> None:
    noise = Random(6)
    slower = slow_down((ATTENTION,), 0.1)
    first, second = (
        make_arm(arm, rows, Known(value=profile(rows, noise)), noise) for arm, rows in (("a", SECONDS), ("b", slower))
    )
    sides = [(first, first.results[0])], [(second, second.results[0])]
    judgement = judge(first, second)
    assert describe_moved(*sides, judgement).endswith("% of it is attention")
    assert describe_moved(*sides, judgement.model_copy(update={"verdict": "same"})) == ""


@pytest.mark.parametrize(
    ("operator", "kernel", "family", "name"),
    [
        ("aten::bmm", None, "attention", "bmm"),
        ("aten::addmm", "void cutlass::Kernel2<cutlass_80_tensorop>(P)", "GEMM", "addmm"),
        ("aten::mul", "void at::native::vectorized_elementwise_kernel<4>(int)", "elementwise", "mul"),
        ("aten::native_group_norm", "void at::native::RowwiseMomentsCUDAKernel<float>(long)", "normalisation",
         "RowwiseMomentsCUDAKernel"),
        ("aten::cudnn_convolution", "sm90_xmma_fprop_implicit_gemm_f16", "convolution",
         "sm90_xmma_fprop_implicit_gemm_f16"),
        ("no operator", "Memcpy HtoD (Pageable -> Device)", "copies", "Memcpy HtoD "),
        ("aten::isneginf", None, "attention", "isneginf"),
        ("aten::_scaled_mm", None, "GEMM", "_scaled_mm"),
        ("mkldnn::_linear_pointwise", None, "GEMM", "mkldnn::_linear_pointwise"),
        ("triton_poi_fused_convolution_silu_0", None, "elementwise", "triton_poi_fused_convolution_silu_0"),
        (OUTSIDE, None, "outside operators", OUTSIDE),
    ],
)  # fmt: skip
def test_families_and_names_of_operators(operator: str, kernel: str | None, family: str, name: str) -> None:
    row = make_row("denoise_step", operator, 0.1, 1, kernel=kernel)
    assert (family_of(row), short_name(row).strip()) == (family, name.strip())
