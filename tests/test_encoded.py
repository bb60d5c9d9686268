"""What is counted in encoded rows."""

import numpy as np
import pytest
from rows import encode_rows

from seq2seq_kit.data import encoded
from seq2seq_kit.data.encoded import target_shares


def test_shares_count_targets_by_the_weight_of_their_corpus() -> None:
    rows = [([9, 9], [4, 5]), ([9], [4]), ([], [6, 6, 6])]
    data = encode_rows(rows, [("tsv", 2.0, 2), ("lines", 0.5, 1)])
    # Each token once; twice (4, 5, EOS, 4, EOS), half of (6, 6, 6, EOS).
    counts = np.array([1, 1, 1, 1 + 2 * 2 + 0.5, 1 + 4, 1 + 2, 1 + 1.5, 1])
    np.testing.assert_allclose(target_shares(data, 8), counts / counts.sum())


def test_shares_of_many_rows_are_those_of_evenly_spaced_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoded, "_COUNTED_ROWS", 2)
    monkeypatch.setattr(encoded, "_COUNTED_TOKENS", 3)
    data = encode_rows([([], [4] * 9), ([], [5]), ([], [6]), ([], [7])])
    # Rows 0 and 2, three tokens at most, each for two rows.
    counts = np.array([1, 1, 1, 1 + 4, 1 + 6, 1, 1 + 2, 1])
    np.testing.assert_allclose(target_shares(data, 8), counts / counts.sum())


def test_shares_of_no_rows_are_equal() -> None:
    np.testing.assert_allclose(target_shares(encode_rows([]), 5), np.full(5, 0.2))
