from pathlib import Path

import pytest

from sdbench.errors import UserError
from sdbench.report.model import SummarySection
from sdbench.report.prices import Price, Prices, load_prices, make_prices, parse_price
from sdbench.report.sections.energy import cost_of_images, format_cost
from sdbench.schema.base import Known
from sdbench.schema.metrics import result_energy_j
from sdbench.schema.outcome import Succeeded
from sdbench.schema.workload_results import BatchProbe, BatchSearch
from tests.records import make_launch, make_record, make_result, make_succeeded
from tests.report.inputs import column, find_section, find_table
from tests.views import build_view, make_source

EUR = Prices(own=Price(1.10, "EUR"))


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("1.10/h", Price(1.1, "")),
        ("1.10 EUR/h", Price(1.1, "EUR")),
        ("USD 1.10/h", Price(1.1, "USD")),
        ("$2/hour", Price(2.0, "$")),
        (" 0.5€ / h ", Price(0.5, "€")),
        ("0/h", Price(0.0, "")),
    ],
)
def test_price_is_read_with_or_without_a_currency(text: str, price: Price) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", ["", "1.10", "/h", "EUR/h", "1,10/h", "1.10/day", "USD 1 EUR/h", "nan/h", "1e3/h"])
def test_what_is_no_price_per_hour_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="invalid price"):
        parse_price(text)


def test_negative_price_is_refused() -> None:
    with pytest.raises(UserError, match="'-1/h' is a negative price"):
        parse_price("-1/h")


def test_longest_fitting_name_wins_and_published_machines_have_no_price_of_ones_own() -> None:
    prices = Prices(Price(9.0, ""), {"rtx": Price(1.0, ""), "RTX 3090": Price(2.0, "")})
    assert prices.find("NVIDIA GeForce RTX 3090", is_reference=True) == Price(2.0, "")
    assert prices.find("NVIDIA RTX A6000", is_reference=False) == Price(1.0, "")
    assert prices.find("Example CPU", is_reference=False) == Price(9.0, "")
    assert prices.find("Example CPU", is_reference=True) is None


def test_prices_file_maps_names_to_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("RTX 3090: 0.50 EUR/h\nExample CPU: 1/h\n")
    assert load_prices(path) == {"RTX 3090": Price(0.5, "EUR"), "Example CPU": Price(1.0, "")}
    assert make_prices("2/h", path).own == Price(2.0, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- 1\n", "no mapping of names to prices"),
        ("RTX 3090: 0.5\n", "prices.yaml:1:1: 'RTX 3090' has 0.5, no price per hour"),
        ("A: 1/h\nB: cheap\n", "prices.yaml:2:1: invalid price 'cheap'"),
        ("A: -1/h\n", "'-1/h' is a negative price"),
        ("A: 1/h\nA: 2/h\n", "duplicate key 'A'"),
        ("A: {per: 1/h}\n", "no price per hour"),
    ],
)
def test_bad_prices_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_prices(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_binary_prices_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        load_prices(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="binary"):
        load_prices(tmp_path / "binary")


def test_prices_that_fit_no_machine_of_the_page_are_refused() -> None:
    with pytest.raises(UserError, match="no name in the prices"):
        build_view((make_record(),), prices=Prices(by_name={"RTX": Price(1.0, "")}))


def test_cost_is_price_per_hour_over_images_per_hour_with_the_latencys_interval() -> None:
    record = make_record(results=(make_result(make_succeeded(3.6, 3), batch=4),))
    source = make_source((record,), None, None, EUR)
    (measured,) = source.measured
    cost = cost_of_images(source, measured)
    assert cost is not None
    value, low, high = cost.amount
    assert value == pytest.approx(1.10 * measured.estimate.value / 3600 / 4 * 1000)
    assert low is not None
    assert high is not None
    assert measured.estimate.high is not None
    assert high / value == pytest.approx(measured.estimate.high / measured.estimate.value)
    assert low < value < high
    assert format_cost(cost).endswith("] EUR")


def test_cost_has_a_column_and_a_line_only_when_there_is_a_price() -> None:
    record = make_record(results=(make_result(make_succeeded(3.6, 1)),))
    plain, priced = build_view((record,)), build_view((record,), prices=EUR)
    assert "cost of 1,000 images" not in [one.title for one in find_table(plain, "results").columns]
    assert column(find_table(priced, "results"), "cost of 1,000 images") == ["1.10 EUR"]
    summary = find_section(priced, "summary")
    assert isinstance(summary, SummarySection)
    (needs,) = [card for card in summary.cards if card.question == "What does it take?"]
    assert "1,000 images cost 1.10 EUR" in needs.lines


def test_energy_per_image_divides_by_the_batch_that_a_search_found() -> None:
    probe = BatchProbe(batch=8, fits=True, peak_bytes=Known(value=1), wall_s=1.0, message="")
    search = BatchSearch(
        limit_bytes=10,
        limit_source="test",
        loaded_bytes=Known(value=1),
        probes=(probe,),
        largest_batch=8,
        batch_max=256,
    )
    launches = (make_launch(0, workload_result=search, series=()), make_launch(1, 0.1, "cuda:0", call_count=5, batch=8))
    outcome = Succeeded(launches=launches, stop_reason="converged")
    energy = result_energy_j(outcome)
    assert isinstance(energy, Known)
    assert energy.value == pytest.approx(300.0 * 0.1 / 8)
