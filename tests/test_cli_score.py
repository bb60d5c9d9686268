"""`s2s score`: log-probabilities and perplexities."""

import math
from pathlib import Path

import pytest
from conftest import TrainedRun

from seq2seq_kit.cli import main


@pytest.mark.usefixtures("answers")
def test_score_of_texts_alone_is_for_continuation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("ab\n", encoding="utf-8")
    assert main(["score", "run", "--text", str(tmp_path / "texts")]) == 2
    assert "give --source" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_score_writes_a_line_for_each_and_perplexities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("ab c\nd\n", encoding="utf-8")
    texts = str(tmp_path / "texts")
    assert main(["score", "run", "--source", texts, "--target", texts]) == 0
    captured = capsys.readouterr()
    assert captured.out == "-2.000000\t4\n-2.000000\t1\n"
    # 4 nats over 5 tokens; 3 words and 2 line ends; 5 characters and 2 line ends.
    assert captured.err == (
        f"2 lines; perplexity {math.exp(4 / 5):.6g} per token,"
        f" {math.exp(4 / 5):.6g} per word, {math.exp(4 / 7):.6g} per character\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "a", "--target", "a", "--adapt"], "--adapt needs --text"),
        (["--text", "a", "--rate", "0.1"], "--rate has an effect only with --adapt"),
        (["--text", "a", "--adapt", "--segment", "0"], "`segment` must be 1 or more. Received: 0"),
    ],
)
def test_options_of_an_adaptation_that_cannot_work_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "run", *options]) == 2
    assert message in capsys.readouterr().err


def test_score_reads_running_text_as_one_and_can_adapt_to_it(
    continuation_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("seven six\n\nfive four\n" * 30, encoding="utf-8")
    arguments = ["score", str(continuation_run.path), "--text", str(tmp_path / "text")]
    found = []
    for options in ([], ["--adapt", "--rate", "0.01", "--cache-weight", "0.1"], []):
        assert main([*arguments, *options]) == 0
        captured = capsys.readouterr()
        rows = [line.split("\t") for line in captured.out.splitlines()]
        # Characters and newline; the end of the text belongs to its last line.
        assert [int(tokens) for _, tokens in rows] == [*([10, 1, 10] * 30)[:-1], 11]
        found.append(sum(float(log_prob) for log_prob, _ in rows))
    assert found[0] == found[2]  # The run has not changed.
    assert found[1] > 0.5 * found[0]


@pytest.mark.usefixtures("answers")
def test_score_refuses_files_of_different_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "out").write_text("a\n", encoding="utf-8")
    files = ["--source", str(tmp_path / "in"), "--target", str(tmp_path / "out")]
    assert main(["score", "run", *files]) == 2
    assert capsys.readouterr().err.startswith("s2s: error: ")


def test_an_export_scores_pairs_as_its_run_does(
    translation_run: TrainedRun,
    translation_export: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").write_text("ab\n\nabc\n", encoding="utf-8")
    (tmp_path / "out").write_text("ba\n\nabb\n", encoding="utf-8")
    pairs = ["--source", str(tmp_path / "in"), "--target", str(tmp_path / "out")]
    assert main(["score", str(translation_export), *pairs]) == 0
    found = capsys.readouterr()
    expected = translation_run.fitted.score(["ab", "", "abc"], ["ba", "", "abb"])
    rows = [line.split("\t") for line in found.out.splitlines()]
    assert [int(number) for _, number in rows] == [one.num_tokens for one in expected]
    assert [float(score) for score, _ in rows] == pytest.approx(
        [one.log_prob for one in expected], abs=1e-3
    )
    assert found.err.splitlines()[-1].startswith("3 lines; perplexity ")
    for other in (["--text", str(tmp_path / "in")], [*pairs, "--long-lines", "truncate"]):
        assert main(["score", str(translation_export), *other]) == 2
        assert "Use the run folder" in capsys.readouterr().err


def test_an_export_samples_on_the_command_line(
    translation_run: TrainedRun, translation_export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", str(translation_export), "--prompt", "abcd", "--num-hypotheses", "3"]
    assert main([*command, "--sample", "--seed", "7"]) == 0
    found = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines()]
    options = {"sample": True, "seed": 7, "num_hypotheses": 3}
    (expected,) = translation_run.fitted.hypotheses(["abcd"], **options)
    assert found == [one.text for one in expected]
    assert main([*command, "--seed", "7"]) == 2
    assert "`seed` has an effect only with `sample: true`" in capsys.readouterr().err
    assert main([*command, "--temperature", "2"]) == 2
    assert "it accepts --output" in capsys.readouterr().err
