"""Subword sampling: against the probabilities of all segmentations, and laws of the sampler."""

import itertools
from collections import Counter

import numpy as np
import pytest
from rows import encode_rows, plan_of
from tokenizer_texts import LINES, TEXTS, train

from seq2seq_kit.config import Config
from seq2seq_kit.data.batches import make_dataset
from seq2seq_kit.data.sampling import SampledSide, SubwordSampler, make_sampler
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.tokens.proto import parse_model
from seq2seq_kit.tokens.tokenizer import Tokenizer

PAD, EOS = 0, 3


@pytest.fixture(scope="module", params=[("unigram", False), ("unigram", True), ("bpe", False)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind, lossless = request.param
    return train(type=kind, lossless=lossless)


def sampler_of(tokenizer: Tokenizer, alpha: float = 0.2, seed: int = 1) -> SubwordSampler:
    side = SampledSide(tokenizer, alpha)
    return SubwordSampler(source=side, target=side, seed=seed)


def test_a_sampled_segmentation_has_the_same_text(tokenizer: Tokenizer) -> None:
    best = tokenizer.encode(LINES + TEXTS)
    sampled = [tokenizer.resample(ids, alpha=0.2, seed=7) for ids in best]
    assert tokenizer.decode(sampled) == tokenizer.decode(best)
    assert sum(one != other for one, other in zip(best, sampled, strict=True)) > 10


def test_a_part_of_a_text_keeps_its_bytes(tokenizer: Tokenizer) -> None:
    """A window may begin within a word, and even within a character."""
    for ids in tokenizer.encode(LINES):
        for start, stop in itertools.combinations(range(min(len(ids), 12) + 1), 2):
            part = ids[start:stop]
            sampled = tokenizer.resample(part, alpha=0.2, seed=3)
            for one, other in [(part, sampled)]:
                assert b"".join(tokenizer.surfaces[i] for i in one) == b"".join(
                    tokenizer.surfaces[i] for i in other
                )


def test_user_defined_tokens_stay() -> None:
    tokenizer = Tokenizer.train(TEXTS, type="bpe", vocab_size=400, user_defined_symbols=["<de>"])
    ids = tokenizer.encode(["<de> the cat sat <de>"])[0]
    tag = tokenizer.pieces.index("<de>")
    sampled = tokenizer.resample(ids, alpha=0.9, seed=1)
    assert sampled != ids
    assert sampled.count(tag) == ids.count(tag) == 2


def test_segmentations_have_the_probabilities_of_their_definition() -> None:
    """Unigram: p(segmentation) ** alpha, normalized over all segmentations of the word."""
    tokenizer = train(type="unigram", lossless=False)
    scores = {p.piece: p.score for p in parse_model(tokenizer.model_proto).pieces if p.type == 1}
    word, alpha, draws = "▁lief", 0.5, 4000
    weights = {}
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        ends = [i + 1 for i, cut in enumerate(cuts) if cut] + [len(word)]
        pieces = tuple(word[a:b] for a, b in zip([0, *ends], ends, strict=False))
        if all(piece in scores for piece in pieces):
            weights[pieces] = np.exp(alpha * sum(scores[piece] for piece in pieces))
    ids = tokenizer.encode(["lief"])[0]
    found = Counter(
        tuple(tokenizer.pieces[i] for i in tokenizer.resample(ids, alpha=alpha, seed=seed))
        for seed in range(draws)
    )
    assert len(weights) > 4
    assert set(found) <= set(weights)
    for pieces, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = np.sqrt(share * (1 - share) / draws)
        assert abs(found[pieces] / draws - share) < 5 * deviation, pieces


def test_bpe_dropout_of_all_merges_leaves_characters() -> None:
    tokenizer = train(type="bpe", lossless=False)
    ids = tokenizer.encode(["the cat sat"])[0]
    sampled = tokenizer.resample(ids, alpha=1.0, seed=1)
    assert [tokenizer.pieces[i] for i in sampled] == list("▁the▁cat▁sat")


def arrays_of(sampler: SubwordSampler, epoch: int, **options: int) -> list[dict[str, np.ndarray]]:
    assert sampler.source is not None
    ids = sampler.source.tokenizer.encode(TEXTS[:7])
    data = encode_rows(list(zip(ids, ids[::-1], strict=True)))
    plan = plan_of(data, epoch=epoch, batch_size=3, sampler=sampler.of_epoch)
    return list(make_dataset(data, plan, **options).as_numpy_iterator())


def texts_of(arrays: list[dict[str, np.ndarray]], tokenizer: Tokenizer) -> list[tuple[str, ...]]:
    rows = []
    for element in arrays:
        real = element["weights"].any(axis=1)
        sides = [element[key][real] for key in ("source_ids", "target_ids")]
        rows += list(zip(*(tokenizer.decode(side.tolist()) for side in sides), strict=True))
    return rows


def test_batches_have_the_texts_of_the_rows_and_count_their_own_tokens() -> None:
    tokenizer = train(type="unigram", lossless=False)
    arrays = arrays_of(sampler_of(tokenizer), 0)
    ids = tokenizer.encode(TEXTS[:7])
    texts = tokenizer.decode(ids)
    assert sorted(texts_of(arrays, tokenizer)) == sorted(zip(texts, texts[::-1], strict=True))
    for element in arrays:
        assert element["num_tokens"] == element["weights"].sum()
        assert (element["source_ids"] == EOS).sum() == len(element["source_ids"])
        assert ((element["target_ids"] != PAD) == element["weights"]).all()
    assert sum(element["num_tokens"] for element in arrays) > sum(map(len, ids)) + 7


def test_segmentations_depend_on_seed_epoch_and_text_alone() -> None:
    tokenizer = train(type="unigram", lossless=False)
    sampler = sampler_of(tokenizer)
    whole = arrays_of(sampler, 0)
    resumed = arrays_of(sampler, 0, start=2)
    np.testing.assert_equal(resumed, whole[2:])
    replicas = arrays_of(sampler, 0, replicas_per_worker=2)
    workers = [arrays_of(sampler, 0, worker=worker, num_workers=2) for worker in (0, 1)]
    for index, batch in enumerate(whole):
        for replica in (0, 1):
            part = replicas[2 * index + replica]
            np.testing.assert_equal(workers[replica][index], part)
            rows = int(part["weights"].any(axis=1).sum())
            np.testing.assert_equal(part["target_ids"][:rows], batch["target_ids"][replica::2])
            assert part["num_tokens"] == batch["num_tokens"]
    ids = np.array(tokenizer.encode(TEXTS[:1])[0])
    others = [
        sampler_of(tokenizer, seed=seed)._sample_text(ids, sampler.target, epoch).tolist()
        for seed, epoch in [(1, 0), (1, 1), (2, 0), (1, 0)]
    ]
    assert others[0] == others[3]
    assert len({tuple(other) for other in others}) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"data": {"train": {"text": "a"}}, "task": "continuation"}, "one a line"),
        ({"data": {"train": {"tsv": "a"}}, "task": "continuation"}, "must be target"),
    ],
)
def test_what_cannot_be_sampled_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.model_validate(config | {"training": {"subword_sampling": "both"}})


def test_a_vocabulary_with_one_segmentation_is_refused() -> None:
    config = Config.model_validate(
        {"data": {"train": "a.tsv"}, "training": {"subword_sampling": "target"}}
    )
    characters = train(type="char", lossless=False)
    with pytest.raises(ConfigError, match="vocabulary of the target is of the type 'char'"):
        make_sampler(config, Tokenizers(characters, characters))


def test_the_strength_has_a_default_for_each_type() -> None:
    unigram, bpe = (train(type=kind, lossless=False) for kind in ("unigram", "bpe"))
    for given, alphas in ((None, (0.2, 0.1)), (0.5, (0.5, 0.5))):
        training = {"subword_sampling": "both", "subword_sampling_alpha": given}
        config = Config.model_validate({"data": {"train": "a.tsv"}, "training": training})
        sampler = make_sampler(config, Tokenizers(unigram, bpe))
        assert sampler is not None and sampler.source is not None and sampler.target is not None
        assert (sampler.source.alpha, sampler.target.alpha) == alphas
