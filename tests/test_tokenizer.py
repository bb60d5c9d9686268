"""Tokenizers, against hand-worked pieces, plain second ways, and the op of tensorflow-text."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings, strategies
from tokenizer_texts import LINES, MODES, SPACELESS, TEXTS, train

from seq2seq_kit.config.section import Normalization
from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from seq2seq_kit.text.normalization import TextRules
from seq2seq_kit.tokens import train as train_module
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.tokens.train import TokenizerType


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: f"{mode[0]}-{mode[1]}")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind, lossless = request.param
    return train(type=kind, lossless=lossless)


def expected_text(text: str, tokenizer: Tokenizer) -> str:
    """What should come back, said in another way than the tokenizer says it."""
    return text if tokenizer.lossless else " ".join(part for part in text.split(" ") if part)


ODD = "\0\t\n\r\x10\x11\x12 \u2581\u2585\ufffd\ufeff\u200b\ufdd0\uffff\u0301é가\u1100春了❤\ufe0f😀"
ANY_TEXT = strategies.text(
    strategies.one_of(
        strategies.sampled_from(ODD), strategies.characters(exclude_categories=["Cs"])
    )
)


@given(text=ANY_TEXT)
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text])) == [expected_text(text, tokenizer)]


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def spaceless(request: pytest.FixtureRequest) -> Tokenizer:
    """A lossless tokenizer that has seen no space."""
    return Tokenizer.train(SPACELESS, type=request.param, vocab_size=320, lossless=True)


@given(text=ANY_TEXT)
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_any_text_comes_back_where_training_saw_no_space(spaceless: Tokenizer, text: str) -> None:
    assert spaceless.decode(spaceless.encode([text])) == [text]


def test_a_space_is_one_token_where_training_saw_none(spaceless: Tokenizer) -> None:
    assert spaceless.tokenize("春天 了") == [*spaceless.tokenize("春天"), "▁", "了"]
    assert spaceless.tokenize("  ") == ["▁", "▁"]


def test_a_model_of_an_earlier_run_reads_spaces_but_writes_no_space_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(train_module._TRAINER_OPTIONS, "required_chars")
    trained = Tokenizer.train(SPACELESS, type="char", vocab_size=320, lossless=True)
    earlier = Tokenizer(
        trained.model_proto.replace(b"seq2seq_kit/none", b"identity"[:8] + b"\0" * 8)
    )
    assert earlier.text_rules == TextRules("none", escapes=False)
    (ids,) = earlier.encode(["春天 了"])
    assert [earlier.pieces[token_id] for token_id in ids][2:5] == ["<0xE2>", "<0x96>", "<0x81>"]
    assert earlier.decode([ids]) == ["春天 了"]
    assert earlier.encode(["春\u2581\u200b"]) == earlier.encode(["春 \u200b"])


@pytest.mark.parametrize("form", get_args(Normalization))
@pytest.mark.parametrize("lossless", [False, True])
def test_what_comes_back_is_the_normalized_text(form: Normalization, lossless: bool) -> None:
    tokenizer = train(normalization=form, lossless=lossless)
    texts = [*LINES, "\ufeffe\u0301\u00a0 x\u200b\r", "\u1112\u1161\u11ab ﬁ\u2581"]
    assert tokenizer.decode(tokenizer.encode(texts)) == list(map(tokenizer.normalize, texts))


def test_the_normalization_is_kept_in_the_model(tmp_path: Path) -> None:
    train(normalization="nfd").save(tmp_path / "nfd.model")
    loaded = Tokenizer.load(tmp_path / "nfd.model", "nfc")  # the file has its own
    assert loaded.text_rules == TextRules("nfd", escapes=True)
    assert len({train(normalization=form).fingerprint for form in get_args(Normalization)}) == 4
    later = loaded.model_proto.replace(b"seq2seq_kit/nfd", b"seq2seq_kit/xyz")
    with pytest.raises(ConfigError, match=r"must be one of nfc, nfd, nfkc, none\. Received: 'xyz'"):
        Tokenizer(later)


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_a_very_long_text_comes_back(kind: TokenizerType) -> None:
    text = "春天 \u2581\0了\n" * 20_000
    tokenizer = Tokenizer.train(SPACELESS, type=kind, vocab_size=320, lossless=True)
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


@pytest.mark.parametrize("text", LINES, ids=lambda text: repr(text[:20]))
def test_decoding_inverts_encoding(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text])) == [expected_text(text, tokenizer)]


def test_decoding_inverts_encoding_for_every_character(tokenizer: Tokenizer) -> None:
    # Planes 0 and 1 in runs of 64 between letters, without surrogates.
    codes = [code for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    texts = ["x" + "".join(map(chr, codes[i : i + 64])) + "y" for i in range(0, len(codes), 64)]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


@pytest.mark.parametrize("text", ["The cat", "Quäke 😀 ran", "春天到了，他说", "龘<0x41>"])
def test_surfaces_joined_are_the_text_as_sentencepiece_spells_it(
    tokenizer: Tokenizer, text: str
) -> None:
    (ids,) = tokenizer.encode([text])
    spelled = ("" if tokenizer.lossless else "\u2581") + text.replace(" ", "\u2581")
    assert b"".join(tokenizer.surfaces[token_id] for token_id in ids) == spelled.encode()
    assert tokenizer.surfaces[:4] == (b"", b"", b"", b"")


def test_the_graph_op_gives_the_same_ids_and_texts(tokenizer: Tokenizer) -> None:
    tf = pytest.importorskip("tensorflow")
    tensorflow_text = pytest.importorskip("tensorflow_text")
    op = tensorflow_text.SentencepieceTokenizer(model=tokenizer.model_proto)
    rules = tokenizer.text_rules
    ids = tokenizer.encode(LINES)
    assert op.tokenize(rules.prepare_tensor(tf.constant(LINES))).to_list() == ids
    texts = rules.restore_tensor(op.detokenize(tf.ragged.constant(ids, dtype=tf.int32)))
    assert [text.decode("utf-8") for text in texts.numpy()] == tokenizer.decode(ids)


@pytest.mark.parametrize("symbols", [["\n"], ["<de>"], ["\n", "<de>"]], ids=repr)
def test_the_graph_op_breaks_ties_around_symbols_as_python_does(symbols: list[str]) -> None:
    # Numbers of equal pieces in many orders ("1" + "11" or "11" + "1") are full of ties.
    tensorflow_text = pytest.importorskip("tensorflow_text")
    rng = np.random.default_rng(1)
    numbers = ["".join(rng.choice(["1", "8"], size)) for size in rng.integers(3, 9, 4000)]
    tokenizer = Tokenizer.train(
        [*numbers[:50], *TEXTS], vocab_size=420, user_defined_symbols=symbols, lossless=True
    )
    texts = [rng.choice(symbols).join(numbers[i : i + 50]) for i in range(4000)]
    op = tensorflow_text.SentencepieceTokenizer(model=tokenizer.model_proto)
    assert op.tokenize(texts).to_list() == tokenizer.encode(texts)


def test_the_graph_op_decodes_any_ids_as_python_does(tokenizer: Tokenizer) -> None:
    tf = pytest.importorskip("tensorflow")
    tensorflow_text = pytest.importorskip("tensorflow_text")
    op = tensorflow_text.SentencepieceTokenizer(model=tokenizer.model_proto)
    ids = np.random.default_rng(1).integers(0, tokenizer.vocab_size, (2000, 8), np.int32)
    texts = tokenizer.text_rules.restore_tensor(op.detokenize(tf.RaggedTensor.from_tensor(ids)))
    assert [text.decode("utf-8") for text in texts.numpy()] == tokenizer.decode(ids)  # type: ignore[arg-type]


def test_encoding_adds_no_special_ids(tokenizer: Tokenizer) -> None:
    special = {PAD_ID, UNK_ID, BOS_ID, EOS_ID}
    assert special == {0, 1, 2, 3}
    assert special.isdisjoint(itertools.chain.from_iterable(tokenizer.encode(LINES)))
    assert tokenizer.pieces[:4] == ["<pad>", "<unk>", "<s>", "</s>"]


def test_padding_bos_and_eos_give_no_text(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode(["the cat"])
    with_special = np.array([2, *ids[:1], 0, *ids[1:], 3, 0, 0], np.int32)
    assert tokenizer.decode([with_special, [2, 3], []]) == ["the cat", "", ""]  # type: ignore[list-item]


def test_a_saved_tokenizer_loads_as_it_was(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.model"
    path.write_bytes(b"older file")
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["vocabulary.model"]
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.lossless == tokenizer.lossless
    assert loaded.encode(LINES) == tokenizer.encode(LINES)


def test_sentencepiece_itself_reads_the_model(tokenizer: Tokenizer) -> None:
    plain = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model_proto)
    assert [plain.id_to_piece(i) for i in range(plain.vocab_size())] == tokenizer.pieces
    assert tokenizer.vocab_size == plain.vocab_size()
    ordinary = [line for line in LINES if "\u2581" not in line]
    assert plain.encode(ordinary) == tokenizer.encode(ordinary)


def test_word_pieces_are_words() -> None:
    tokenizer = train(type="word")
    assert tokenizer.tokenize("The cat sat on") == ["▁The", "▁cat", "▁sat", "▁on"]
    # A word that was not seen is spelled with its space: U+2581 is E2 96 81 in UTF-8.
    assert tokenizer.tokenize("The é") == [
        "▁The",
        *("<0xE2>", "<0x96>", "<0x81>", "<0xC3>", "<0xA9>"),
    ]


def test_char_pieces_are_characters() -> None:
    assert train(type="char").tokenize("cat 春") == ["▁", "c", "a", "t", "▁", "春"]
    assert train(type="char", lossless=True).tokenize(" a\n") == ["▁", "a", "\n"]


def segmentations(text: str, pieces: set[str]) -> Iterator[list[str]]:
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in pieces:
            for rest in segmentations(text[end:], pieces):
                yield [text[:end], *rest]


@pytest.mark.parametrize("text", ["the cat sat", "the dog ran", "a tree", "over the mat"])
def test_unigram_finds_the_best_of_all_segmentations(text: str) -> None:
    tokenizer = train(type="unigram")
    plain = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model_proto)
    scores = {piece: plain.get_score(i) for i, piece in enumerate(tokenizer.pieces) if i > 3}
    totals = [
        sum(scores[piece] for piece in pieces)
        for pieces in segmentations("▁" + text.replace(" ", "▁"), set(scores))
    ]
    assert len(totals) > 1
    assert sum(scores[piece] for piece in tokenizer.tokenize(text)) == max(totals)


def test_bpe_merges_the_earliest_pair_first() -> None:
    tokenizer = train(type="bpe")
    rank = {piece: i for i, piece in enumerate(tokenizer.pieces)}  # merges in order, then letters
    for word in ["cat", "beside", "after", "schlief"]:
        pieces = list("▁" + word)
        while True:
            joined = [a + b for a, b in itertools.pairwise(pieces)]
            known = [(rank[pair], i) for i, pair in enumerate(joined) if pair in rank]
            if not known:
                break
            _, i = min(known)
            pieces[i : i + 2] = [joined[i]]
        assert tokenizer.tokenize(word) == pieces


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_lossless_newlines_are_tokens_that_nothing_crosses(kind: str) -> None:
    tokenizer = train(type=kind, lossless=True)
    lines = ["The cat", "", "  春天到了 ", "sat.\t", "", "", " on the mat"]
    by_line = tokenizer.encode([line + "\n" for line in lines])
    (at_once,) = tokenizer.encode(["".join(line + "\n" for line in lines)])
    assert list(itertools.chain.from_iterable(by_line)) == at_once
    newline = tokenizer.pieces.index("\n")
    assert at_once.count(newline) == len(lines)
    assert all("\n" not in piece for piece in tokenizer.pieces if piece != "\n")


def test_without_byte_fallback_the_unseen_is_unknown() -> None:
    tokenizer = train(type="char", byte_fallback=False)
    assert UNK_ID in tokenizer.encode(["龘"])[0]
    assert tokenizer.decode(tokenizer.encode(["cat龘"])) == ["cat \u2047 "]


def test_bytes_that_are_no_character_are_replaced() -> None:
    tokenizer = train(type="char")
    cut = tokenizer.encode(["龘"])[0][:-1]
    assert "\ufffd" in tokenizer.decode([cut])[0]


def test_unigram_scores_are_multiples_of_1024ths() -> None:
    model_proto = train(type="unigram", user_defined_symbols=["<de>"]).model_proto
    plain = sentencepiece.SentencePieceProcessor(model_proto=model_proto)
    scores = [plain.get_score(i) * 1024 for i in range(plain.vocab_size())]
    assert len(set(scores)) > 20
    assert all(score == round(score) for score in scores)
    assert Tokenizer(model_proto).model_proto == model_proto


def sentencepiece_model(**options: object) -> bytes:
    """A model that SentencePiece trained with its own defaults."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=100,
        minloglevel=2,
        **options,  # type: ignore[arg-type]
    )
    return model.getvalue()


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.model"
    path.write_bytes(sentencepiece_model())
    with pytest.raises(ConfigError) as error:
        Tokenizer.load(path)
    for part in [
        "foreign.model",
        "Received: pad_id=-1, unk_id=0, bos_id=1, eos_id=2.",
        "--pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3",
    ]:
        assert part in str(error.value)


def test_a_foreign_model_with_the_right_ids_is_taken() -> None:
    tokenizer = Tokenizer(sentencepiece_model(pad_id=0, unk_id=1, bos_id=2, eos_id=3))
    assert not tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(["the cat，"])) == ["the cat,"]  # NFKC by default


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 pieces"),
        (b"garbage", "Expected a SentencePiece model"),
        (b"\x0a\x03\x0a\x01a", "unk is not defined"),  # one piece, "a"
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vocabulary.model"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"vocabulary\.model: .*{message}"):
        Tokenizer.load(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.model: .*No such file"):
        Tokenizer.load(tmp_path / "nothing.model")


def test_saving_where_no_folder_is_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        train().save(tmp_path / "missing" / "vocabulary.model")
    assert list(tmp_path.iterdir()) == []


def test_one_string_is_not_taken_for_a_list() -> None:
    with pytest.raises(TypeError, match="must be a list of strings"):
        train().encode("the cat")


def test_half_a_surrogate_pair_is_named() -> None:
    with pytest.raises(DataError, match=r"Text 2: character 3 \('\\udc80'\)"):
        train().encode(["fine", "ab\udc80"])
    with pytest.raises(DataError, match=r"Text 2: character 3 \('\\udc80'\)"):
        Tokenizer.train(["fine", "ab\udc80"], vocab_size=300)
