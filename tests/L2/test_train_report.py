"""What a training tells: words that read back as the numbers they were made from, and a picture that is well-formed."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.records import CurvePoint
from lpm_kernel.L2.train_report import StepReport, curve_markdown, curve_svg, read_report, sparkline

numbers = st.integers(0, 100_000)
losses = st.integers(0, 99_999).map(lambda thousandths: thousandths / 1000)
CURVE = (
    CurvePoint(1, 3.0, None, 200.0, 1e-3),
    CurvePoint(2, 1.5, 2.0, 210.0, 9e-4),
    CurvePoint(4, 0.5, 1.2, 220.0, 1e-4),
)


@given(st.builds(StepReport, numbers, numbers, numbers, numbers, losses, st.none() | losses, numbers, numbers))
def test_a_report_is_read_back_from_its_words(report: StepReport) -> None:
    assert read_report(report.words()) == report


def test_other_words_are_no_report() -> None:
    assert read_report("loading SmolLM2-135M-Instruct to train on 160 rows") is None
    assert read_report("epoch 1 of 2, step 3 of 8, loss nan, 9 tokens/s, 1 s left") is None


def test_the_picture_holds_both_curves_and_can_be_parsed() -> None:
    root = ElementTree.fromstring(curve_svg(CURVE))
    lines = [element.attrib["points"].split() for element in root.iter() if element.tag.endswith("polyline")]
    assert [len(points) for points in lines] == [3, 2]
    heights = [float(point.partition(",")[2]) for point in lines[0]]
    assert heights == sorted(heights), "a falling loss goes down the picture"


def test_the_curve_stands_in_the_ui_as_picture_and_as_text() -> None:
    text = curve_markdown(CURVE)
    picture = text.partition("base64,")[2].partition(")")[0]
    assert base64.b64decode(picture).decode() == curve_svg(CURVE)
    assert "loss 3.000 █▄▁ 0.500" in text
    assert "held-out loss 2.000 █▁ 1.200" in text
    assert curve_markdown(()) == "no step was reported"
    assert sparkline([2.0, 2.0]) == "▁▁"
