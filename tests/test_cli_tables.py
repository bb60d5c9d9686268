"""How results are shown."""

import re

from conftest import TrainedRun

from seq2seq_kit.cli import tables


def test_every_result_has_a_separate_name_and_a_unit(translation_run: TrainedRun) -> None:
    results = translation_run.fitted.results
    shown = tables.results_table(results)
    rows = [re.split(" {2,}", row) for row in shown.splitlines()]
    names = [name for name, _ in rows]
    assert len(set(names)) == len(results) - 1  # references_without_spaces is for the advice
    assert not any("_" in name for name in names)
    assert dict(rows)["validation exact match"] == f"{results['validation_exact_match']:.2f} %"
