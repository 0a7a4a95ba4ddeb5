"""The benchmark runs: on tiny sizes, with whatever peers are there; how fast, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import chart, report
from bench.__main__ import WORKLOADS
from bench.contest import Contender, Role, Row, compete
from tests.supervision import marked_environment

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_every_workload_leaves_a_result_and_a_bar_in_the_chart(tmp_path: Path) -> None:
    folders = f"--cache={tmp_path / 'cache'}", f"--results={tmp_path / 'results'}"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", *folders],
        cwd=TOP,
        env=marked_environment(tmp_path),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    results = {result["workload"]: result for result in report.load_all(tmp_path / "results")}
    assert set(results) == set(WORKLOADS)
    for result in results.values():
        ours = [row for row in result["rows"] if row["role"] == "ours"]
        assert all(row["median"] > 0 for row in ours)
        assert ours, result["missing"]
    picture = (tmp_path / "results" / "chart.svg").read_text()
    assert all(name in picture for name in WORKLOADS)


def test_a_result_names_no_folder_of_this_machine() -> None:
    found = report.Report("W0", "title", "ms", "lower", [Row("a", Role.OURS, (1.0, 3.0))], [])

    text = json.dumps(found.to_json({}, 0.0))

    assert str(TOP) not in text
    assert str(Path.home()) not in text


def test_contenders_run_in_turn_after_a_warm_up() -> None:
    calls: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> float:
            calls.append(name)
            return float(len(calls))

        return Contender(name, Role.PEER, run)

    outcome = compete([contender("a"), contender("b")], rounds=2)

    assert calls == ["a", "b"] * 3
    assert [row.values for row in outcome.rows] == [(3.0, 5.0), (4.0, 6.0)]


def test_a_contender_that_fails_is_named_and_left_out() -> None:
    def fail() -> float:
        raise ValueError("broken")

    outcome = compete([Contender("a", Role.PEER, fail)], rounds=2)

    assert outcome.rows == []
    assert outcome.missing == {"a": "ValueError: broken"}


def test_a_bar_is_met_at_its_target() -> None:
    assert report.Bar("a", 0.85, "at least", 0.85).is_met is True
    assert report.Bar("a", 1.11, "at most", 1.1).is_met is False
    assert report.Bar("a", None, "at most", 1.1).is_met is None


def test_names_are_escaped_in_the_chart() -> None:
    found = report.Report("W0", "a < b", "ms", "lower", [Row("<x>", Role.OURS, (1.0,))], [])

    picture = chart.draw([found.to_json({}, 0.0)])

    assert "a &lt; b" in picture
    assert "<x>" not in picture


def test_the_chart_in_the_readme_is_drawn_from_the_results_beside_it() -> None:
    picture = (report.RESULTS / "chart.svg").read_text()

    assert picture == chart.draw(report.load_all(report.RESULTS))
