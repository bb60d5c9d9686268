"""Token healing, against all ways to spell, and with models that know texts by heart."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from reference import generator_of
from searches import StepDecoder

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding import SearchInputs, StepOutput, healing
from seq2seq_kit.decoding.healing import Healer
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.module import ExportModule
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, Start
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, UNK_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

SENTENCES = """He eats an apple.
She drives three buses to town.
We walked along the river yesterday.
They believe every single word.
My brother plays the violin well.
Nobody understands this complicated problem.
The children are sleeping upstairs.
Your neighbour painted his garage green.
I forgot my umbrella at school.
Some people never answer questions.
Doctors recommend drinking warm water.
Our teacher explained the experiment.
Two birds built a nest here.
This old castle looks haunted.
Farmers harvest wheat in summer.
Grandmother baked seven chocolate cakes.
Sailors watch the stars at night.
His daughter collects foreign stamps.
Quiet students read long novels.
Winter storms damaged many roofs.
Yellow leaves cover the garden path.""".splitlines()
CHINESE = [
    "今天天气很好，我们去公园玩。",
    "春天到了，万物复苏。",
    "他每天早上喝一杯咖啡。",
    "我喜欢喝绿茶😀和咖啡😃。",
]
KINDS = ["unigram", "bpe", "char", "word"]

LIKELY = 9.0


class _Memory:
    """Knows token sequences by heart: a tree of them, whose nodes are the states of a model."""

    def __init__(self, rows: Sequence[Sequence[int]], vocab_size: int) -> None:
        nodes: dict[tuple[int, ...], int] = {}
        for row in rows:
            for length in range(len(row) + 1):
                nodes.setdefault(tuple(row[:length]), len(nodes) + 1)
        self.next = np.zeros((len(nodes) + 1, vocab_size), np.int32)  # Node 0 knows nothing.
        for row in nodes:
            if row:
                self.next[nodes[row[:-1]], row[-1]] = nodes[row]
        # Among what it knows it likes low ids better.
        self.logits = np.where(self.next > 0, LIKELY - np.arange(vocab_size) / vocab_size, 0.0)
        self.next[:, BOS_ID] = 1

    def feed(self, node: tf.Tensor, token_ids: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(self.next, tf.stack([node, token_ids], axis=1))

    def step(self, token_ids: tf.Tensor, states: Any) -> StepOutput:
        node = self.feed(states[0], token_ids)
        return StepOutput(tf.gather(tf.constant(self.logits, tf.float32), node), (node,), None)

    def read(self, token_ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Returns the nodes after tokens, of which each row has its own number."""

        def feed(node: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            return tf.where(place < lengths, self.feed(node, token_ids[:, place]), node)

        places = tf.range(tf.shape(token_ids)[1])
        return tf.foldl(feed, places, tf.ones_like(lengths))


class KnowingModel(LanguageModel):
    """A language model that knows texts by heart."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        super().__init__(tokenizer.vocab_size, embedding_dim=4, units=32)
        rows = [[*row, EOS_ID] for row in tokenizer.encode(texts)]
        self.memory = _Memory(rows, tokenizer.vocab_size)
        self.build()

    def output_layer(self, *_args: Any) -> Any:
        return None

    def start(self, source_ids: Any) -> Start:
        last = tf.reduce_sum(tf.cast(source_ids > 0, tf.int32), axis=1) - 1
        fed = tf.gather(source_ids, last, batch_dims=1)
        return Start(fed, (self.memory.read(source_ids, last),), None)

    def step(self, token_ids: Any, states: Any, *_rest: Any) -> StepOutput:
        return self.memory.step(token_ids, states)


class KnowingReader(EncoderDecoder):
    """An encoder-decoder that knows texts by heart and is given their beginnings."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        super().__init__(tokenizer.vocab_size, embedding_dim=4, units=32)
        rows = [[*row, EOS_ID] for row in tokenizer.encode(texts)]
        self.memory = _Memory(rows, tokenizer.vocab_size)
        self.memory.next[:, BOS_ID] = np.arange(len(self.memory.next))
        self.build()

    def output_layer(self, *_args: Any) -> Any:
        return None

    def start(self, source_ids: Any) -> Start:
        length = tf.reduce_sum(tf.cast(source_ids > 0, tf.int32), axis=1) - 1
        bos = tf.fill(tf.shape(length), BOS_ID)
        return Start(bos, (self.memory.read(source_ids, length),), tf.zeros([tf.size(length), 1]))

    def step(self, token_ids: Any, states: Any, *_rest: Any) -> StepOutput:
        return self.memory.step(token_ids, states)


def train(kind: str, texts: Sequence[str] = SENTENCES, size: int = 430) -> Tokenizer:
    lossless = kind != "word"
    return Tokenizer.train(texts, type=kind, vocab_size=size, lossless=lossless)  # type: ignore[arg-type]


def generator(tokenizer: Tokenizer, texts: Sequence[str], *, reads: bool = False) -> Generator:
    return generator_of(
        (KnowingReader if reads else KnowingModel)(tokenizer, texts),
        tokenizer,
        tokenizer,
        defaults=DecodingConfig(max_length=80, beam_size=1),
        max_source_length=80,
        keep_end=True,
        heals=True,
    )


def continued(model: Generator, prompts: Sequence[str], **options: int) -> list[str]:
    found = model.hypotheses(prompts, **options)
    return [prompt + best.text for prompt, (best, *_) in zip(prompts, found, strict=True)]


@pytest.mark.parametrize(("kind", "beam_size"), [*((kind, 1) for kind in KINDS), ("bpe", 3)])
def test_a_known_sentence_is_completed_wherever_it_is_cut(kind: str, beam_size: int) -> None:
    model = generator(train(kind), SENTENCES)
    after_a_space = [text[: text.rindex(" ") + 1] for text in SENTENCES]
    assert continued(model, after_a_space, beam_size=beam_size) == SENTENCES
    for cut in (9, -2):
        assert (
            continued(model, [text[:cut] for text in SENTENCES], beam_size=beam_size) == SENTENCES
        )


@pytest.mark.parametrize("kind", ["unigram"])
def test_an_encoder_decoder_completes_sentences_too(kind: str) -> None:
    model = generator(train(kind), SENTENCES, reads=True)
    for prompts in ([t[: t.rindex(" ") + 1] for t in SENTENCES], [t[:12] for t in SENTENCES]):
        assert continued(model, prompts) == SENTENCES


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_text_without_spaces_is_completed_from_every_character(kind: str) -> None:
    texts = [text + "\n" for text in CHINESE]
    # Emoji have no pieces: they are spelled in bytes.
    tokenizer = train(
        kind, [*CHINESE[:3], "我喜欢喝绿茶和咖啡。", "今天天气", "公园", "咖啡"] * 3, 330
    )
    model = generator(tokenizer, texts)
    for text in texts:
        prompts = [text[:end] for end in range(1, len(text) + 1)]
        assert set(continued(model, prompts)) == {text}


def test_spaces_newlines_and_nothing_are_continued_as_they_are() -> None:
    texts = ["one  two   three\nfour five\n", "six seven\n\n eight\n"]
    model = generator(train("bpe", texts * 5, 290), texts)
    for text in texts:
        prompts = [text[:end] for end in range(1, len(text) + 1)]
        assert set(continued(model, prompts)) == {text}
    assert continued(model, [""]) != [""]


def test_an_output_does_not_depend_on_the_other_prompts() -> None:
    model = generator(train("bpe"), SENTENCES)
    prompts = [text[:cut] for text in SENTENCES for cut in (0, 1, 5, 8, 11, len(text))]
    for beam_size in (1, 3):
        found = list(model.hypotheses(prompts, beam_size=beam_size))
        options = {"beam_size": beam_size, "batch_size": 3}
        assert list(model.hypotheses(prompts[:20], **options)) == found[:20]


def test_an_unknown_token_is_never_taken_back() -> None:
    tokenizer = Tokenizer.train(
        SENTENCES, type="bpe", vocab_size=170, byte_fallback=False, lossless=True
    )
    texts = ["He eats 春", "He eats 春 an apple."]
    model = generator(tokenizer, texts)
    assert tokenizer.encode(["He eats 春"])[0][-1] == UNK_ID
    assert continued(model, ["He eats 春 an ap"]) == ["He eats 春 an apple."]
    assert continued(model, ["He eats 春"])[0].startswith("He eats 春")


def test_a_prompt_of_the_greatest_length_is_continued() -> None:
    model = generator(train("bpe"), SENTENCES)
    prompt = SENTENCES[0][:-3]
    model.inputs.max_length = len(model.tokenizer.encode([prompt])[0])
    assert continued(model, [prompt]) == SENTENCES[:1]


def test_one_token_is_enough_to_add_something() -> None:
    model = generator(train("unigram"), SENTENCES)
    found = [hypotheses[0] for hypotheses in model.hypotheses(["He eats an "], max_length=1)]
    assert found[0].text and SENTENCES[0].startswith("He eats an " + found[0].text)


@pytest.mark.parametrize(
    ("kind", "options"), [("word", {}), ("bpe", {"sample": True, "temperature": 1.3, "seed": 5})]
)
def test_an_export_joins_prompts_as_python_does(kind: str, options: dict[str, Any]) -> None:
    tokenizer = train(kind)
    model = generator(tokenizer, SENTENCES)
    model.defaults = model.defaults.override(**options)
    exported = ExportModule(
        model.search,
        model.inputs,
        decoding=model.defaults,
        metadata={},
    )
    prompts = [text[:cut] for text in SENTENCES[:5] for cut in (0, 1, 3, 8, 11)] + ["He eats an "]
    found = exported.serve(tf.constant(prompts))
    expected = [hypotheses[0] for hypotheses in model.hypotheses(prompts)]
    assert [text.decode() for text in found["outputs"].numpy()] == [one.text for one in expected]
    np.testing.assert_allclose(found["scores"], [one.score for one in expected], atol=1e-5)


SURFACES = [b"", b"", b"", b"", *(s.encode() for s in ("a", "b", "ab", "ba", "abb", "bab", "aabb"))]


def ways(left: bytes) -> list[list[int]]:
    """All sequences of tokens that spell some bytes, or all but the last and extend beyond them."""
    found: list[list[int]] = [] if left else [[]]
    for token_id, surface in enumerate(SURFACES):
        if surface and len(surface) > len(left) and surface.startswith(left) and left:
            found.append([token_id])
        elif surface and left.startswith(surface):
            found += [[token_id, *rest] for rest in ways(left[len(surface) :])]
    return found


def test_the_end_is_spelt_in_the_likeliest_way_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    # Random tokens have many ways that are nearly as likely: enough of them are followed here.
    monkeypatch.setattr(healing, "WAYS", 64)
    vocab_size = len(SURFACES)
    logits = np.random.default_rng(2).normal(0, 1.0, (vocab_size, vocab_size)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def step(token_ids: tf.Tensor, state: tf.Tensor, _memory: Any) -> StepOutput:
        return StepOutput(tf.gather(logits, token_ids), state)

    prompts = [
        list(p) for n in (1, 2, 3) for p in itertools.product(range(4, vocab_size), repeat=n)
    ]
    prompts = prompts[:: len(prompts) // 60]
    ids = np.array([[*row, *[0] * (3 - len(row))] for row in prompts], np.int32)
    lengths = np.array([len(row) for row in prompts], np.int32)
    healer = Healer(SURFACES)
    ends = healer.take_back(tf.constant(ids), tf.constant(lengths), tf.zeros(len(ids), tf.bool))
    kept = lengths - ends.num_tokens.numpy()
    before = np.array([row[k - 1] if k else 2 for row, k in zip(prompts, kept, strict=True)])
    start = tf.constant(before, tf.int32)
    healed = healer.spell_again(StepDecoder(step), SearchInputs(start, tf.zeros(len(ids))), ends)
    assert ends.num_tokens.numpy().max() > 0
    for row, k, first, bound, again, number in zip(
        prompts,
        kept,
        before,
        healed.first.numpy(),
        healed.token_ids.numpy(),
        healed.lengths.numpy(),
        strict=True,
    ):
        spelled = b"".join(SURFACES[token] for token in row[k:])
        if not spelled:
            assert number == 0
            continue
        scored = {}
        for way in ways(spelled):
            pairs = itertools.pairwise([int(first), *way])
            scored[tuple(way)] = math.fsum(log_probs[a, b] for a, b in pairs)
        best = max(scored, key=lambda way: scored[way])
        goes_beyond = sum(len(SURFACES[token]) for token in best) > len(spelled)
        assert again[:number].tolist() == list(best[: len(best) - goes_beyond])
        assert (bound[0] >= 0) == goes_beyond


@pytest.mark.parametrize(("kind", "beam_size"), [("bpe", 1), ("word", 3)])
def test_forcing_the_beginning_that_would_come_anyway_changes_nothing(
    kind: str, beam_size: int
) -> None:
    tokenizer = Tokenizer.train(SENTENCES, type=kind, vocab_size=430)  # type: ignore[arg-type]
    model = generator_of(
        KnowingReader(tokenizer, SENTENCES),
        tokenizer,
        tokenizer,
        defaults=DecodingConfig(max_length=80, beam_size=beam_size),
        max_source_length=80,
    )
    sources = [" ".join(text.split(" ")[:2]) for text in SENTENCES[:8]]
    expected = [best.text for best, *_ in model.hypotheses(sources)]
    assert all(
        text and source + " " + text in SENTENCES
        for source, text in zip(sources, expected, strict=True)
    )
    # Cut between words, within a word, and after a space; one is free.
    cuts = [text[:cut] for text, cut in zip(expected, (0, 1, 3, 5, 7, 9, 99, 4), strict=True)]
    cuts[2] = expected[2][: expected[2].index(" ") + 1]
    found = [best.text for best, *_ in model.hypotheses(sources, prefixes=cuts)]
    assert found == expected
    for source, cut, text in zip(sources[:3], cuts, expected, strict=False):
        assert [h.text for (h,) in model.hypotheses([source], prefixes=[cut])] == [text]
        assert "".join(model.stream(source, prefix=cut)) == text
    for (best,) in model.hypotheses(sources, prefixes="Winter storms "):
        assert best.text.startswith("Winter storms ")


def test_a_forced_beginning_of_a_continuation_follows_its_prompt() -> None:
    model = generator(train("bpe"), SENTENCES)
    ((best,),) = model.hypotheses(["He eats"], prefixes=" an ap")
    assert best.text == " an apple."
    pieces = list(model.stream("He eats", prefix=" an ap"))
    assert (pieces[0], "".join(pieces)) == (" an ap", best.text)


def test_forced_beginnings_that_cannot_be_are_refused() -> None:
    model = generator(train("bpe"), SENTENCES)
    with pytest.raises(InputError, match=r"one for each of the 2 inputs\. Received: 3"):
        list(model.hypotheses(["a", "b"], prefixes=["a", "b", "c"]))
    with pytest.raises(InputError, match="cannot be used with a shortlist"):
        list(model.hypotheses(["a"], prefixes="b", shortlist=True))
    with pytest.raises(InputError, match="cannot be used with a shortlist"):
        model.stream("a", prefix="b", shortlist=True)
