"""Defaults from statistics of the texts: plain values in, plain values out."""

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.config import Config, load_config, load_saved_config, save_config
from seq2seq_kit.config.rules import Choice, choose_defaults, given_keys, keep_chosen
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.text.statistics import measure_corpora

# A syllable each, so that words are many and look like words.
SYLLABLES = [c + v for c in "bdfgklmnprstw" for v in "aeiou"]
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 900)]


def word(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4)))


def sentence(rng: random.Random) -> str:
    return " ".join(word(rng) for _ in range(rng.randint(3, 9))) + "."


def chinese(rng: random.Random) -> str:
    return "".join(rng.choices(HAN, k=rng.randint(5, 15))) + "。"


def japanese(rng: random.Random) -> str:
    kana = [chr(code) for code in range(0x3042, 0x3090)]
    return "".join(rng.choices(HAN[:300] + 4 * kana, k=rng.randint(5, 15))) + "。"


def thai(rng: random.Random) -> str:
    return "".join(chr(rng.randint(0xE01, 0xE2E)) for _ in range(rng.randint(10, 40)))


def korean(rng: random.Random) -> str:
    words = ["".join(chr(rng.randint(0xAC00, 0xAFFF)) for _ in range(3)) for _ in range(5)]
    return " ".join(words)


def phones(rng: random.Random) -> str:
    return " ".join(rng.choices(["AA1", "B", "CH", "D", "EH0", "IY1", "K", "T"], k=6))


def morse(rng: random.Random) -> str:
    return " ".join(rng.choices([".-", "-...", "-.-.", "-..", ".", "..-.", "--."], k=4))


def label(rng: random.Random) -> str:
    return rng.choice(["positive", "negative", "neutral"])


def chosen(tmp_path: Path, *sides: Any, lines: int = 600, **sections: Any) -> Config:
    """What is chosen for pairs (two sides) or running text (one) that look like these."""
    return with_choices(tmp_path, *sides, lines=lines, **sections)[0]


def with_choices(
    tmp_path: Path, *sides: Any, lines: int = 600, **sections: Any
) -> tuple[Config, list[Choice]]:
    rng = random.Random(1)
    rows = ["\t".join(side(rng) for side in sides) for _ in range(lines)]
    (tmp_path / "texts").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    kind = "text" if len(sides) == 1 else "tsv"
    data = {"train": {kind: str(tmp_path / "texts")}} | sections.pop("data", {})
    task = "continuation" if kind == "text" else "translation"
    config = load_config({"task": task, "data": data, **sections})
    return choose_defaults(config, measure_corpora(config.data, config.tokenizer))


def vocabulary_types(config: Config) -> list[str]:
    return [vocabulary.type for _, vocabulary in config.tokenizer.vocabularies()]


@pytest.mark.parametrize(
    ("sides", "types"),
    [
        ((sentence, sentence), ["unigram"]),
        ((sentence, korean), ["unigram", "unigram"]),
        ((sentence, chinese), ["unigram", "char"]),
        ((chinese, sentence), ["char", "unigram"]),
        ((japanese, chinese), ["char"]),
        ((sentence, thai), ["unigram", "bpe"]),
        ((word, word), ["char"]),
        ((word, phones), ["char", "word"]),
        ((word, morse), ["char", "word"]),
        ((phones, word), ["word", "char"]),
        ((sentence, label), ["unigram", "word"]),
        ((sentence,), ["unigram"]),
        ((chinese,), ["char"]),
    ],
)
def test_vocabularies_follow_the_script_and_the_words(
    tmp_path: Path, sides: Any, types: list[str]
) -> None:
    assert vocabulary_types(chosen(tmp_path, *sides)) == types


def test_a_lemma_with_tags_is_spelled_as_the_form_is(tmp_path: Path) -> None:
    def lemma(rng: random.Random) -> str:
        return f"{word(rng)} {rng.choice(['N;SG', 'N;PL', 'V;PST'])}"

    assert vocabulary_types(chosen(tmp_path, lemma, word)) == ["char"]


@pytest.mark.parametrize(
    ("target", "tokenizer"),
    [(sentence, "13a"), (chinese, "zh"), (japanese, "char"), (thai, "char"), (korean, "13a")],
)
def test_bleu_counts_the_words_of_the_target_s_script(
    tmp_path: Path, target: Any, tokenizer: str
) -> None:
    assert chosen(tmp_path, sentence, target).data.bleu_tokenize == tokenizer


def test_character_and_word_vocabularies_are_exactly_as_large_as_the_data_need(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from seq2seq_kit.data.tokenizers import build_tokenizers

    config = chosen(tmp_path, chinese, phones)
    built = build_tokenizers(config, FileDigests())
    assert config.tokenizer.source is not None
    assert config.tokenizer.target is not None
    assert built.source.vocab_size == config.tokenizer.source.vocab_size
    assert built.target.vocab_size == config.tokenizer.target.vocab_size
    assert "was requested" not in caplog.text
    assert built.target.tokenize("AA1 B CH") == ["▁AA1", "▁B", "▁CH"]


@pytest.mark.parametrize("normalization", ["nfc", "nfd", "nfkc", "none"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_characters_are_counted_as_the_tokenizer_will_see_them(
    tmp_path: Path, normalization: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    from seq2seq_kit.data.tokenizers import build_tokenizers

    def accented(rng: random.Random) -> str:
        letters = "".join(rng.choices(["é", "ü", "å", "a", "b", "ệ", "\u200b", "한", "글"], k=6))
        return unicodedata.normalize(form, f"x{letters}")

    config = chosen(tmp_path, accented, accented, tokenizer={"normalization": normalization})
    assert config.tokenizer.type == "char"
    built = build_tokenizers(config, FileDigests()).target
    assert built.vocab_size == config.tokenizer.vocab_size
    assert "vocab_size" not in caplog.text
    # Every character of the texts has a piece, none is spelled in bytes.
    for line in (tmp_path / "texts").read_text(encoding="utf-8").splitlines()[:50]:
        pieces = built.tokenize(line.split("\t")[1])
        assert not any(piece.startswith("<0x") for piece in pieces)


@pytest.mark.parametrize(
    "sides", [(sentence, sentence), (sentence, chinese), (thai,), (word, word)]
)
@pytest.mark.parametrize("lines", [1, 12, 200])
def test_the_vocabulary_of_few_lines_can_be_trained(tmp_path: Path, sides: Any, lines: int) -> None:
    from seq2seq_kit.data.tokenizers import build_tokenizers

    build_tokenizers(chosen(tmp_path, *sides, lines=lines), FileDigests())


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"units": 100}, "training": {"learning_rate": 0.5, "batch_size": 7}},
        {"tokenizer": {"vocab_size": 555}},
        {"tokenizer": {"type": "bpe"}},
        {"tokenizer": {"source": {"vocab_size": 600}, "target": {"type": "bpe"}}},
        {"data": {"bleu_tokenize": "13a", "max_source_length": 3}},
        {"training": {"validate_every": 3, "early_stopping": {"patience": 9}}},
        {"training": {"batch_unit": "tokens", "batch_size": 4096}},
    ],
)
def test_a_key_that_is_given_is_never_changed(tmp_path: Path, sections: dict[str, Any]) -> None:
    expected = {key: dict(values) for key, values in sections.items()}
    found = chosen(tmp_path, sentence, chinese, **sections).model_dump()
    for section, values in expected.items():
        for key, value in values.items():
            given = value.items() if isinstance(value, dict) else [(None, value)]
            for inner, one in given:
                assert (found[section][key] if inner is None else found[section][key][inner]) == one


def test_a_single_tokenizer_key_keeps_one_vocabulary_for_both_sides(tmp_path: Path) -> None:
    config = chosen(tmp_path, sentence, chinese, tokenizer={"vocab_size": 1500})
    assert config.tokenizer.source is None
    assert config.tokenizer.type == "bpe"


def test_a_language_model_has_one_vocabulary(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = "".join(f"{sentence(rng)}\t{chinese(rng)}\n" for _ in range(300))
    (tmp_path / "pairs.tsv").write_text(rows, encoding="utf-8")
    config = load_config({"task": "continuation", "data": {"train": str(tmp_path / "pairs.tsv")}})
    resolved, _ = choose_defaults(config, measure_corpora(config.data))
    assert resolved.model.architecture == "language_model"
    assert resolved.tokenizer.source is None


@pytest.mark.parametrize("side", [phones, label])
def test_lossless_text_is_never_cut_into_words(tmp_path: Path, side: Any) -> None:
    from seq2seq_kit.data.tokenizers import build_tokenizers

    config = chosen(tmp_path, side)
    assert config.tokenizer.lossless
    assert build_tokenizers(config, FileDigests()).target.lossless
    config = chosen(tmp_path, sentence, side, tokenizer={"lossless": True})
    build_tokenizers(config, FileDigests())


def test_batches_of_tokens_get_a_size_of_tokens(tmp_path: Path) -> None:
    config = chosen(tmp_path, sentence, sentence, training={"batch_unit": "tokens"})
    assert config.training.batch_size == 4096


def test_less_of_running_text_is_held_out(tmp_path: Path) -> None:
    assert chosen(tmp_path, sentence).data.holdout == 50
    assert chosen(tmp_path, sentence, sentence).data.holdout == 1000


def test_limits_rise_for_long_lines_and_batches_shrink(tmp_path: Path) -> None:
    def long_chinese(rng: random.Random) -> str:
        return "".join(chinese(rng) for _ in range(20))

    config = chosen(tmp_path, long_chinese, sentence)
    assert 200 < config.data.max_source_length <= 500
    assert config.data.max_target_length == 100
    tokens = chosen(
        tmp_path, sentence, long_chinese, training={"batch_unit": "tokens", "batch_size": 150}
    )
    assert tokens.data.max_target_length < 150
    longer = chosen(tmp_path, sentence, long_chinese)
    assert longer.decoding.max_length == longer.data.max_target_length > 200
    given = chosen(tmp_path, sentence, long_chinese, decoding={"max_length": 30})
    assert given.decoding.max_length == 30
    assert chosen(tmp_path, sentence, long_chinese).training.batch_size < 64


@pytest.mark.parametrize(
    ("lines", "minutes", "dropout", "reason"),
    [
        (600, None, 0.3, "in 10 minutes, two cores train on each line about 9"),
        (20, None, 0.3, "in 10 minutes, two cores train on each line more than 1,000 times"),
        (600, 0.01, 0.1, "in 0.01 minutes, two cores train on each line less than once"),
        (600, 0.2, 0.3, "in 0.2 minutes, two cores train on each line about 1"),
    ],
)
def test_dropout_follows_from_how_often_a_line_is_seen_in_the_time_given(
    tmp_path: Path, lines: int, minutes: float | None, dropout: float, reason: str
) -> None:
    config, choices = with_choices(
        tmp_path, sentence, sentence, lines=lines, training={"max_minutes": minutes}
    )
    assert config.model.dropout == dropout
    (choice,) = [choice for choice in choices if "model.dropout" in choice.values]
    assert choice.reason.startswith(reason)


def test_every_key_counts_as_given_in_what_was_chosen(tmp_path: Path) -> None:
    config = chosen(tmp_path, sentence, chinese)
    assert "training.learning_rate" in given_keys(config)
    again, choices = choose_defaults(config, measure_corpora(config.data))
    assert again == config
    assert choices == []


def test_a_saved_config_is_never_chosen_for_again(tmp_path: Path) -> None:
    config = chosen(tmp_path, sentence, chinese)
    save_config(config, tmp_path / "config.yaml")
    saved = load_saved_config(tmp_path / "config.yaml").config
    statistics = measure_corpora(config.data)
    assert choose_defaults(saved, statistics) == (config, [])
    # As does one that an earlier version wrote, with the defaults of that time.
    old = load_config(load_config({"data": {"train": str(tmp_path / "texts")}}).model_dump())
    assert choose_defaults(old, statistics) == (old, [])


def test_a_config_object_is_completed_as_its_file_would_be(tmp_path: Path) -> None:
    expected, choices = with_choices(tmp_path, sentence, chinese)
    config = load_config(load_config({"data": {"train": str(tmp_path / "texts")}}))
    assert choose_defaults(config, measure_corpora(config.data)) == (expected, choices)


def test_a_resumed_run_keeps_chosen_values_unless_others_are_given(tmp_path: Path) -> None:
    saved = chosen(tmp_path, sentence, chinese)
    values = {"data": {"train": str(tmp_path / "texts")}, "training": {"max_steps": 5}}
    assert keep_chosen(load_config(values), saved) == saved.model_copy(
        update={"training": saved.training.model_copy(update={"max_steps": 5})}
    )
    changed = keep_chosen(load_config(values | {"tokenizer": {"vocab_size": 900}}), saved)
    assert changed.tokenizer.source is None
    assert changed.tokenizer.vocab_size == 900


def test_a_resumed_run_keeps_every_key_that_can_be_chosen(tmp_path: Path) -> None:
    for sides in ((sentence, sentence), (word, phones), (thai,), (sentence, chinese)):
        saved, choices = with_choices(tmp_path, *sides, lines=300)
        given = {"task": saved.task, "data": {"train": [dict(saved.data.train[0])]}}
        resumed = keep_chosen(load_config(given), saved)
        assert choices
        assert resumed == saved


def test_chosen_values_are_logged_with_their_reasons(tmp_path: Path) -> None:
    _, choices = with_choices(tmp_path, sentence, chinese)
    lines = [str(choice) for choice in choices]
    assert "data.bleu_tokenize zh: the target is Chinese" in lines
    assert any(line.startswith("tokenizer.target.type char") for line in lines)


def test_reading_a_config_reads_no_data(tmp_path: Path) -> None:
    load_config({"data": {"train": str(tmp_path / "no such file")}})


# ---- Statistics


def test_lines_count_by_the_weight_of_their_corpus(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\n" * 10)
    (tmp_path / "b").write_text("yyyyy\n" * 10)
    corpora = [{"lines": str(tmp_path / "a"), "weight": 3}, {"lines": str(tmp_path / "b")}]
    config = load_config({"task": "continuation", "data": {"train": corpora}})
    statistics = measure_corpora(config.data)
    assert statistics.num_lines == 40
    assert statistics.target.characters_per_line == pytest.approx((30 + 50) / 40)
    assert statistics.source is None


@pytest.mark.parametrize("row", ["", "abcd\t", "\tabcd", "one\ttwo\tthree"])
def test_lines_that_training_skips_do_not_count(tmp_path: Path, row: str) -> None:
    rows = "".join(f"abcd\tefghij\n{row}\n" for _ in range(20))
    (tmp_path / "pairs.tsv").write_text(rows)
    corpus = {"tsv": str(tmp_path / "pairs.tsv"), "bad_lines": "skip"}
    statistics = measure_corpora(load_config({"data": {"train": corpus}}).data)
    assert statistics.num_lines == pytest.approx(20)
    assert statistics.target.characters_per_line == pytest.approx(6)
    assert statistics.source is not None
    assert statistics.source.characters_per_line == pytest.approx(4)


WORDS = [f"{a}{b}\t{b}{a}{b}\n" for a in "abcdefgh" for b in "ijklmn"]


@pytest.mark.parametrize(
    "row",
    [
        f"ab\t{' '.join('春天到了' * 30)}\n",
        f"{'Ω' * 3000}\tx\n",
        f"{' '.join(map(str, range(9000)))}\tab\n",
    ],
)
def test_a_line_that_is_skipped_as_too_long_changes_nothing(tmp_path: Path, row: str) -> None:
    statistics = []
    for name, rows in (("with", [*WORDS[:30], row, *WORDS[30:]]), ("without", WORDS)):
        (tmp_path / name).write_text("".join(rows), encoding="utf-8")
        statistics.append(
            measure_corpora(load_config({"data": {"train": str(tmp_path / name)}}).data)
        )
    assert statistics[0] == statistics[1]


@pytest.mark.parametrize("key", ["max_source_length", "long_lines"])
def test_a_long_line_that_is_not_skipped_counts(tmp_path: Path, key: str) -> None:
    (tmp_path / "pairs").write_text("".join([*WORDS, f"{'x' * 3000}\ty\n"]), encoding="utf-8")
    option = {"max_source_length": 4000, "long_lines": "truncate"}[key]
    data = {"train": str(tmp_path / "pairs"), key: option}
    statistics = measure_corpora(load_config({"data": data}).data)
    assert "y" in statistics.target.characters


def test_a_large_file_is_sampled_evenly_and_counted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq_kit.text import statistics as text_statistics

    # Sorted by length, as some collections are.
    rows = [f"{'a' * (n // 10 + 1)}\tb" for n in range(1000)]
    (tmp_path / "pairs.tsv").write_text("".join(f"{row}\n" for row in rows))
    config = load_config({"data": {"train": str(tmp_path / "pairs.tsv")}})
    exact = measure_corpora(config.data)
    monkeypatch.setattr(text_statistics, "_SAMPLE_LINES", 100)
    sampled = measure_corpora(config.data)
    assert exact.source is not None
    assert sampled.source is not None
    assert exact.num_lines == 1000
    assert sampled.num_lines == pytest.approx(1000)
    assert exact.source.characters_per_line == pytest.approx(
        sum(n // 10 + 1 for n in range(1000)) / 1000
    )
    assert sampled.source.characters_per_line == pytest.approx(
        exact.source.characters_per_line, rel=0.05
    )
    monkeypatch.setattr(text_statistics, "_READ_LINES", 300)
    assert measure_corpora(config.data).num_lines == pytest.approx(1000)


def test_scripts_are_shares_of_the_letters(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("春天 ab, 12!\n", encoding="utf-8")
    config = load_config(
        {"task": "continuation", "data": {"train": {"lines": str(tmp_path / "a")}}}
    )
    statistics = measure_corpora(config.data).target
    assert statistics.scripts == {"CJK": 0.5, "LATIN": 0.5}


@pytest.mark.parametrize("sides", [False, True])
def test_a_run_of_earlier_versions_keeps_its_bytes(sides: bool) -> None:
    # They wrote `byte_fallback: true` wherever it was left out, beside two sides too.
    tokenizer: dict[str, Any] = {"type": "char", "vocab_size": 400}
    written: dict[str, Any] = {**tokenizer, "byte_fallback": True}
    if sides:
        tokenizer = {"source": tokenizer, "target": tokenizer}
        written = {"byte_fallback": True, "source": written, "target": written}
    data = {"data": {"train": "x.tsv"}}
    saved = Config.model_validate({**data, "tokenizer": written})
    resumed = keep_chosen(Config.model_validate({**data, "tokenizer": tokenizer}), saved)
    assert resumed.tokenizer == saved.tokenizer
