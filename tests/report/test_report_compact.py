"""Fewer bytes, the same picture: coordinates may be rounded, texts never."""

from sdbench.report.charts.compact import compact_svg

CIRCLE = '<path transform="translate({x},5.123)" d="M2,0A2,2,0,1,1,-2,0A2,2,0,1,1,2,0" fill="red" stroke-width="2"/>'
TRIANGLE = '<path transform="translate({x},5)" d="M0,-2L-2,2L2,2Z" stroke="red"/>'


def test_figures_in_texts_stay_as_they_are() -> None:
    # vl-convert escapes quotes in texts, so an attribute in one is none.
    svg = '<text transform="translate(1.2345,6)">1.2345 s ± 0.123 % d=&quot;1.234&quot;</text>'
    assert compact_svg(svg) == svg.replace("1.2345,6", "1.2,6")


def test_circles_of_one_look_become_one_path_of_dots() -> None:
    svg = compact_svg(CIRCLE.format(x="10.04") + CIRCLE.format(x="20"))
    assert svg == '<path stroke="red" stroke-width="4" stroke-linecap="round" d="M10,5.1h0M20,5.1h0"/>'


def test_polygons_of_one_look_become_one_path() -> None:
    svg = compact_svg(TRIANGLE.format(x="10") + TRIANGLE.format(x="20"))
    assert svg == '<path d="M10,5m0,-2l-2,4l4,0zM20,5m0,-2l-2,4l4,0z" stroke="red"/>'


def test_a_mark_alone_stays_one() -> None:
    assert compact_svg(TRIANGLE.format(x="10")) == TRIANGLE.format(x="10")
