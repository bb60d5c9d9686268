"""The whole way, from files to answers: does a small model learn a small task?"""

from conftest import TrainedRun

from seq2seq_kit.seq2seq import Seq2Seq


def test_words_never_seen_are_reversed(
    translation_run: TrainedRun, unseen_words: list[str]
) -> None:
    translator = Seq2Seq.load(translation_run.path)
    expected = [word[::-1] for word in unseen_words]
    for beam_size in (1, 5):
        outputs = translator.generate(unseen_words, beam_size=beam_size)
        right = sum(a == b for a, b in zip(outputs, expected, strict=True))
        assert right >= 0.9 * len(expected)
    found = translator.evaluate(unseen_words, [[word] for word in expected])
    assert found.exact_match == 100 * right / len(expected)


def test_the_right_answer_is_likelier_than_a_wrong_one(
    translation_run: TrainedRun, unseen_words: list[str]
) -> None:
    words = [word for word in unseen_words if word != word[::-1]]
    right = translation_run.fitted.score(words, [word[::-1] for word in words])
    wrong = translation_run.fitted.score(words, words)
    better = [a.log_prob > b.log_prob for a, b in zip(right, wrong, strict=True)]
    assert sum(better) >= 0.95 * len(words)


def test_a_text_read_again_and_again_is_continued(continuation_run: TrainedRun) -> None:
    continuer = Seq2Seq.load(continuation_run.path)
    one, seven, nothing = continuer.generate(["one two", "six seven\n", ""], max_length=40)
    assert one.startswith(" three four five six seven\none two")
    assert seven.startswith("one two three")
    assert nothing


def test_validation_loss_falls_and_is_the_perplexity_of_the_results(
    translation_run: TrainedRun,
) -> None:
    history = translation_run.fitted.history
    losses = [record["val_loss"] for record in history]
    assert losses[0] > 1.0
    assert min(losses) < 0.2
    assert translation_run.fitted.results["validation_loss"] == min(losses)
