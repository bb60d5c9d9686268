"""Searches over scripted logits, against brute force and a beam search in plain Python."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from searches import beam_search, greedy_search

from seq2seq_kit.decoding import (
    MINUS_INFINITY,
    BeamSearch,
    NoRepeatedNgram,
    SearchResult,
    StepOutput,
    normalize_log_probs,
)
from seq2seq_kit.decoding.beam import Alive, _extend_greedily
from seq2seq_kit.decoding.numerics import in_blocks

PAD, UNK, BOS, EOS = 0, 1, 2, 3
A, B, C = 4, 5, 6
NEVER = (PAD, BOS)


class Found(NamedTuple):
    tokens: tuple[int, ...]
    log_prob: float
    score: float
    is_cut: bool = False


class RandomChain:
    """A model whose next token depends on the last one and on a state of all tokens before."""

    def __init__(self, vocab_size: int, batch: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(vocab_size, vocab_size)) * 2
        self.mixing = rng.normal(size=(1, vocab_size))
        self.start = rng.normal(size=(batch, 1))

    def __call__(
        self, token_ids: tf.Tensor, state: dict[str, tf.Tensor], _memory: Any
    ) -> StepOutput:
        logits = tf.gather(tf.constant(self.table, tf.float32), token_ids)
        logits += state["hidden"] * tf.constant(self.mixing, tf.float32)
        fed = tf.cast(token_ids, tf.float32)[:, tf.newaxis]
        return StepOutput(logits, {"hidden": tf.sin(3 * state["hidden"] + fed)})

    def run(self, search: Callable[..., SearchResult], **options: Any) -> list[list[Found]]:
        state = {"hidden": tf.constant(self.start, tf.float32)}
        first = tf.fill([len(self.start)], BOS)
        return unpack(tf.function(lambda: search(self, first, state, **options))())

    def next_log_probs(self, line: int, tokens: Sequence[int]) -> np.ndarray:
        hidden = self.start[line]
        for last, token in itertools.pairwise([BOS, *tokens, None]):
            logits = self.table[last] + hidden * self.mixing[0]
            hidden = np.sin(3 * hidden + last)
            if token is None:
                break
        log_probs = logits - np.log(np.sum(np.exp(logits)))
        log_probs[list(NEVER)] = -np.inf
        return log_probs


def unpack(result: SearchResult) -> list[list[Found]]:
    """The hypotheses of each line; checks that nothing but padding follows the end of one."""
    lines = []
    for parts in zip(*(part.numpy() for part in result), strict=True):
        line = []
        for ids, length, *numbers, is_cut in zip(*parts, strict=True):
            assert not ids[length:].any()
            assert is_cut == (length == len(ids) - 1 and EOS not in ids)
            line.append(Found(tuple(ids[:length].tolist()), *map(float, numbers), bool(is_cut)))
        lines.append(line)
    return lines


def scripted(table: dict[int, dict[int, float]], vocab_size: int = 7) -> Callable[..., StepOutput]:
    """A step whose next probabilities depend on the token fed: {fed: {next: probability}}."""
    log_probs = np.full((vocab_size, vocab_size), -50.0, np.float32)
    for fed, nexts in table.items():
        for token, probability in nexts.items():
            log_probs[fed, token] = np.log(probability)

    def step(token_ids: tf.Tensor, state: tf.Tensor, _memory: Any) -> StepOutput:
        return StepOutput(tf.gather(tf.constant(log_probs), token_ids), state + 1)

    return step


def search_one(
    table: dict[int, dict[int, float]], beam_size: int, max_length: int, **options: Any
) -> list[Found]:
    """The hypotheses of one line under scripted probabilities."""
    arguments = (scripted(table), tf.constant([BOS]), tf.zeros([1, 1]))
    options["max_length"] = max_length
    if beam_size == 1:
        return unpack(greedy_search(*arguments, **options))[0]
    return unpack(beam_search(*arguments, beam_size=beam_size, **options))[0]


def length_normalized(log_prob: float, length: int, length_penalty: float) -> float:
    return log_prob / ((5 + length) / 6) ** length_penalty


def every_hypothesis(
    model: RandomChain, line: int, max_length: int, length_penalty: float
) -> list[Found]:
    """All texts of at most `max_length` tokens with EOS after them, best first."""
    found = []

    def grow(tokens: tuple[int, ...], log_prob: float) -> None:
        log_probs = model.next_log_probs(line, tokens)
        is_cut = len(tokens) == max_length and log_probs.argmax() != EOS
        for token, gain in enumerate(log_probs):
            if token == EOS:
                total = log_prob + gain
                score = length_normalized(total, len(tokens) + 1, length_penalty)
                found.append(Found(tokens if is_cut else (*tokens, EOS), total, score, is_cut))
            elif token not in NEVER and len(tokens) < max_length:
                grow((*tokens, token), log_prob + gain)

    grow((), 0.0)
    return sorted(found, key=lambda one: -one.score)


def plain_beam_search(
    model: RandomChain,
    line: int,
    beam_size: int,
    max_length: int,
    length_penalty: float,
    *,
    close_at_limit: bool = True,
) -> list[Found]:
    """A beam search that keeps the greedy hypothesis, hypothesis by hypothesis; by score."""
    alive: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    greedy: tuple[int, ...] | None = ()
    finished: list[Found] = []

    def score_of(log_prob: float, length: int) -> float:
        return length_normalized(log_prob, length, length_penalty)

    for time in range(max_length):
        grown = [
            ((*tokens, token), log_prob + gain)
            for tokens, log_prob in alive
            for token, gain in enumerate(model.next_log_probs(line, tokens))
        ]
        grown.sort(key=lambda one: -one[1])
        if greedy is not None:
            greedy = (*greedy, int(model.next_log_probs(line, greedy).argmax()))
        in_beam = [one for place, one in enumerate(grown) if place < beam_size or one[0] == greedy]
        ended = [one for one in in_beam if one[0][-1] == EOS]
        finished += [Found(tokens, p, score_of(p, time + 1)) for tokens, p in ended]
        finished.sort(key=lambda one: -one.score)
        going_on = [one for one in grown if one[0][-1] != EOS]
        if greedy is not None and greedy[-1] == EOS:
            greedy = None
        of_greedy = [one for one in going_on if one[0] == greedy]
        alive = (of_greedy + [one for one in going_on if one[0] != greedy])[:beam_size]
        # The highest score that the best unfinished hypothesis and the greedy one can reach.
        best, greedily = (
            max((score_of(p, max_length + 1) for _, p in ones), default=-np.inf)
            for ones in (alive, of_greedy)
        )
        if len(finished) >= beam_size and (
            finished[beam_size - 1].score >= best or finished[0].score >= greedily
        ):
            return finished[:beam_size]
    for tokens, log_prob in alive:
        log_probs = model.next_log_probs(line, tokens)
        if log_probs.argmax() == EOS:
            total = log_prob + log_probs[EOS]
            finished.append(Found((*tokens, EOS), total, score_of(total, len(tokens) + 1)))
        elif close_at_limit:
            total = log_prob + log_probs[EOS]
            finished.append(Found(tokens, total, score_of(total, len(tokens) + 1), is_cut=True))
        else:
            score = score_of(log_prob, len(tokens))
            finished.append(Found(tokens, log_prob, score, is_cut=True))
    return sorted(finished, key=lambda one: -one.score)[:beam_size]


def assert_same(found: Sequence[Found], expected: Sequence[Found]) -> None:
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.is_cut for one in found] == [one.is_cut for one in expected]
    for field in ("log_prob", "score"):
        np.testing.assert_allclose(
            [getattr(one, field) for one in found],
            [getattr(one, field) for one in expected],
            atol=1e-4,
        )


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5])
def test_a_beam_that_holds_everything_finds_the_best(length_penalty: float) -> None:
    model = RandomChain(vocab_size=6, batch=4)
    found = model.run(
        beam_search,
        beam_size=60,
        num_hypotheses=5,
        max_length=3,
        length_penalty=length_penalty,
        forbidden=NEVER,
    )
    for line, hypotheses in enumerate(found):
        best = every_hypothesis(model, line, max_length=3, length_penalty=length_penalty)[:5]
        assert_same(hypotheses, best)


@pytest.mark.parametrize("beam_size", [2, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_narrow_beams_equal_a_plain_beam_search(beam_size: int, length_penalty: float) -> None:
    model = RandomChain(vocab_size=9, batch=6, seed=1)
    found = model.run(
        beam_search,
        beam_size=beam_size,
        num_hypotheses=beam_size,
        max_length=5,
        length_penalty=length_penalty,
        forbidden=NEVER,
    )
    for line, hypotheses in enumerate(found):
        assert_same(hypotheses, plain_beam_search(model, line, beam_size, 5, length_penalty))


def test_greedy_search_takes_the_likeliest_token_each_time() -> None:
    model = RandomChain(vocab_size=9, batch=6, seed=2)
    found = model.run(greedy_search, max_length=7, length_penalty=1.0, forbidden=NEVER)
    for line, (hypothesis,) in enumerate(found):
        tokens: tuple[int, ...] = ()
        log_prob = 0.0
        while EOS not in tokens:
            log_probs = model.next_log_probs(line, tokens)
            if is_cut := len(tokens) == 7 and log_probs.argmax() != EOS:
                break
            tokens = (*tokens, int(log_probs.argmax()))
            log_prob += log_probs.max()
        log_prob += log_probs[EOS] if is_cut else 0.0
        score = length_normalized(log_prob, len(tokens) + is_cut, 1.0)
        assert_same([hypothesis], [Found(tokens, log_prob, score, is_cut)])


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_one_is_greedy_search_bit_for_bit(seed: int) -> None:
    model = RandomChain(vocab_size=11, batch=16, seed=seed)
    options = {"max_length": 6, "length_penalty": 0.7, "forbidden": NEVER}
    assert model.run(beam_search, beam_size=1, **options) == model.run(greedy_search, **options)


def test_a_finished_hypothesis_is_never_extended() -> None:
    # Whoever feeds EOS finds A for certain: a search that continues after EOS would take it.
    table = {BOS: {A: 0.6, EOS: 0.4}, A: {EOS: 1.0}, EOS: {A: 1.0}}
    for beam_size in (2, 3):
        best, second = search_one(table, beam_size, 4, num_hypotheses=2)
        assert best.tokens == (A, EOS)
        assert second.tokens == (EOS,)
        np.testing.assert_allclose(np.exp([best.log_prob, second.log_prob]), [0.6, 0.4], rtol=1e-5)


def test_a_wider_beam_finds_what_greedy_search_misses() -> None:
    # Greedy: A first, then 0.6 * 0.5. Better: B, 0.4 * 1.
    table = {BOS: {A: 0.6, B: 0.4}, A: {A: 0.5, EOS: 0.5 - 1e-3}, B: {EOS: 1.0}}
    assert search_one(table, 1, 1)[0].tokens == (A,)
    best, *_ = search_one(table, 2, 1)
    assert best.tokens == (B, EOS)
    np.testing.assert_allclose(np.exp(best.log_prob), 0.4, rtol=1e-5)


@pytest.mark.parametrize(
    ("length_penalty", "best"),
    # log(0.3) = -1.204 against log(0.25) = -1.386, divided by 1 and by 7 / 6: -1.204, -1.188.
    [(0.0, (EOS,)), (1.0, (A, EOS))],
)
def test_length_penalty_lets_a_longer_hypothesis_win(
    length_penalty: float, best: tuple[int, ...]
) -> None:
    table = {BOS: {EOS: 0.3, A: 0.25, B: 0.45}, A: {EOS: 1.0}, B: {B: 1.0}}
    found = search_one(table, 3, 2, length_penalty=length_penalty)
    assert found[0].tokens == best


@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_eos_may_follow_the_last_token_and_nothing_else(beam_size: int) -> None:
    table = {BOS: {A: 1.0}, A: {A: 0.9, EOS: 0.1}}
    cut = search_one(table, 1, 3)[0]
    assert cut.tokens == (A, A, A)
    assert cut.is_cut
    np.testing.assert_allclose(cut.log_prob, 2 * np.log(0.9) + np.log(0.1), rtol=1e-5)
    left_open = search_one(table, 1, 3, close_at_limit=False)[0]
    np.testing.assert_allclose(left_open.log_prob, 2 * np.log(0.9), rtol=1e-5)
    table = {BOS: {A: 1.0}, A: {B: 1.0}, B: {EOS: 1.0}}
    assert search_one(table, beam_size, 2)[0].tokens == (A, B, EOS)


@pytest.mark.parametrize(
    ("p_end", "close_at_limit", "best"),
    # A loop of probability 0.9 to the third, closed with 0.1 or 1e-9, or left open.
    [(0.1, True, (A,) * 3), (1e-9, True, (EOS,)), (1e-9, False, (A,) * 3)],
)
def test_a_hypothesis_that_was_cut_has_to_end_to_compare(
    p_end: float, close_at_limit: bool, best: tuple[int, ...]
) -> None:
    table = {BOS: {A: 0.95, EOS: 0.05}, A: {A: 0.9, EOS: p_end}}
    options = {"length_penalty": 1.0, "close_at_limit": close_at_limit}
    found = search_one(table, 5, 3, num_hypotheses=5, **options)
    assert found[0].tokens == best
    assert found[0].is_cut == (best[-1] != EOS)
    # Whatever is missing of a row's probability, the search reckons with it.
    log_prob = np.log(0.95) + 2 * np.log(0.9 / (0.9 + p_end))
    log_prob += np.log(p_end / (0.9 + p_end)) if close_at_limit else 0.0
    (cut,) = (one for one in found if one.tokens == (A,) * 3)
    np.testing.assert_allclose(cut.log_prob, log_prob, rtol=1e-5)


@pytest.mark.parametrize("beam_size", [2, 3, 5])
def test_a_beam_full_of_bad_ends_is_no_reason_to_stop(beam_size: int) -> None:
    # Any token but the greedy one is EOS, so that many hypotheses end long before the greedy one.
    def step(token_ids: tf.Tensor, time: tf.Tensor, _memory: Any) -> StepOutput:
        p_end = tf.where(time < 9, 0.1, 0.999)
        nexts = p_end * tf.one_hot([EOS], 7) + (1 - p_end) * tf.one_hot([A], 7)
        return StepOutput(tf.math.log(nexts + 1e-9), time + 1)

    start, time = tf.constant([BOS]), tf.zeros([1, 1])
    options = {"max_length": 30, "length_penalty": 1.0}
    found = unpack(beam_search(step, start, time, beam_size=beam_size, **options))
    assert found == unpack(greedy_search(step, start, time, **options))
    assert found[0][0].tokens == (*[A] * 9, EOS)


@pytest.mark.parametrize(
    ("beam_size", "never", "ngram", "close_at_limit"),
    [(2, (), 0, True), (5, NEVER, 2, True), (3, (*NEVER, A), 0, False), (5, NEVER, 1, False)],
)
def test_a_beam_is_never_worse_than_greedy_search(
    beam_size: int, never: tuple[int, ...], ngram: int, close_at_limit: bool
) -> None:
    model = RandomChain(vocab_size=8, batch=300, seed=beam_size)

    @tf.function
    def search(max_length: tf.Tensor, length_penalty: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        arguments = (model, tf.fill([300], BOS), {"hidden": tf.constant(model.start, tf.float32)})
        options = {
            "max_length": max_length,
            "length_penalty": length_penalty,
            "forbidden": never,
            "processors": [NoRepeatedNgram(ngram)] if ngram else [],
            "close_at_limit": close_at_limit,
        }
        best = beam_search(*arguments, beam_size=beam_size, **options)
        return best.scores, greedy_search(*arguments, **options).scores

    for max_length, length_penalty in itertools.product([1, 4, 12], [0.0, 0.6, 1.0, 2.0]):
        best, greedy = search(tf.constant(max_length), tf.constant(length_penalty))
        np.testing.assert_array_less(greedy - 1e-5, best)


def test_a_line_ends_as_soon_as_nothing_can_win() -> None:
    # After the first token nothing can beat EOS, however long the search continues.
    steps = []
    table = {BOS: {EOS: 0.999, A: 1e-6}, A: {A: 0.5, B: 0.4}, B: {A: 0.5, B: 0.4}}
    script = scripted(table)

    def step(token_ids: tf.Tensor, state: tf.Tensor, memory: Any) -> StepOutput:
        steps.append(1)
        return script(token_ids, state, memory)

    found = unpack(
        beam_search(
            step,
            tf.constant([BOS]),
            tf.zeros([1, 1]),
            beam_size=5,
            max_length=50,
            length_penalty=1.0,
        )
    )
    assert found[0][0].tokens == (EOS,)
    assert len(steps) == 1


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_suppressed_tokens_never_appear_and_keep_their_probability(beam_size: int) -> None:
    table = {BOS: {UNK: 0.7, A: 0.3}, A: {PAD: 0.5, EOS: 0.5}}
    best, *_ = search_one(table, beam_size, 3, forbidden=(PAD, UNK, BOS))
    assert best.tokens == (A, EOS)
    np.testing.assert_allclose(np.exp(best.log_prob), 0.15, rtol=1e-5)


def test_places_that_nothing_can_fill_hold_no_suppressed_tokens() -> None:
    # Only EOS, A and EOS, and A alone, cut, are allowed.
    suppressed = (PAD, UNK, BOS, B, C)
    found = search_one({}, 6, 1, num_hypotheses=6, forbidden=suppressed)
    # Both tokens have the same probability: A alone is not cut, EOS being a likeliest next one.
    assert [one.tokens for one in found[:3]] == [(EOS,), (A, EOS), ()]
    assert not {token for one in found for token in one.tokens} & set(suppressed)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_a_line_is_done_regardless_of_the_others(search: Callable[..., SearchResult]) -> None:
    # The line fed B never ends.
    endless = {B: 0.6, C: 0.4}
    step = scripted({A: {A: 0.49, EOS: 0.51}, B: endless, C: endless})
    options = {} if search is greedy_search else {"beam_size": 2, "num_hypotheses": 2}
    alone, together = (
        unpack(search(step, tf.constant(fed), tf.zeros([len(fed), 1]), max_length=9, **options))
        for fed in ([A], [A, B])
    )
    assert together[0] == alone[0]
    assert together[1][0].tokens == (B,) * 9


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("row_counts", [(4,), (2, 4), (3, 7, 100)])
def test_lines_leave_the_batch_and_change_nothing(
    beam_size: int, row_counts: tuple[int, ...]
) -> None:
    chain = RandomChain(vocab_size=9, batch=12, seed=4)
    state = {"hidden": tf.constant(chain.start, tf.float32), "time": tf.zeros([12], tf.int32)}
    seen = []

    def step(token_ids: tf.Tensor, state: Any, memory: tf.Tensor) -> StepOutput:
        # What a line remembers of itself stays with it, and is not copied for each row.
        rows_each = tf.size(token_ids) // tf.size(memory)
        assert int(rows_each) in (1, beam_size)
        seen.append(int(tf.size(memory)))
        output = chain(token_ids, state, memory)
        # Line n ends after n tokens.
        ends = tf.where(state["time"] >= tf.repeat(memory, rows_each), 50.0, -50.0)
        logits = output.logits + ends[:, tf.newaxis] * tf.one_hot(EOS, 9)
        return StepOutput(logits, output.state | {"time": state["time"] + 1})

    def search(row_counts: tuple[int, ...]) -> list[list[Found]]:
        seen.clear()
        first, options = tf.fill([12], BOS), {"max_length": 15, "memory": tf.range(12)}
        if beam_size == 1:
            return unpack(greedy_search(step, first, state, row_counts=row_counts, **options))
        options |= {"beam_size": beam_size, "num_hypotheses": beam_size}
        return unpack(beam_search(step, first, state, row_counts=row_counts, **options))

    expected = search(())
    assert set(seen) == {12}
    found = search(row_counts)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    assert set(seen) <= {12, *row_counts}
    assert len(set(seen)) > 1
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_lines_that_are_not_to_be_searched_cost_nothing(beam_size: int) -> None:
    chain = RandomChain(vocab_size=9, batch=6, seed=4)
    rows = []

    def step(token_ids: tf.Tensor, state: Any, memory: Any) -> StepOutput:
        rows.append(int(tf.size(token_ids)))
        return chain(token_ids, state, memory)

    def search(**options: Any) -> list[list[Found]]:
        arguments = (step, tf.fill([6], BOS), {"hidden": tf.constant(chain.start, tf.float32)})
        options["max_length"] = 5
        if beam_size == 1:
            return unpack(greedy_search(*arguments, **options))
        return unpack(beam_search(*arguments, beam_size=beam_size, **options))

    expected = search()
    rows.clear()
    is_done = tf.constant([False, True, False, True, True, True])
    found = search(is_done=is_done, row_counts=(2,))
    assert_same(found[0], expected[0])
    assert_same(found[2], expected[2])
    assert set(rows) == {2 * beam_size}


@pytest.mark.parametrize("columns", [2, 12, 64, 65, 1280, 1343, 8000])
@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("is_static", [True, False])
def test_the_best_continuations_are_those_of_ordering_all(
    columns: int, beam: int, is_static: bool
) -> None:
    rng = np.random.default_rng(columns)
    alive = rng.normal(size=(3, beam)).astype(np.float32)
    normalizer = rng.normal(size=(3, beam)).astype(np.float32)
    spec = tf.TensorSpec([None, columns if is_static else None])

    @tf.function(input_signature=[spec])
    def expand(logits: tf.Tensor) -> tuple[Any, Any]:
        blocks = in_blocks(logits, beam)
        living = Alive((), tf.constant(alive), tf.constant(alive))
        greedy = _extend_greedily(living, blocks, normalizer, tf.constant([True, False, True]))
        search = BeamSearch(decoder=None, beam_size=beam, max_length=1)
        return search._extend(living, blocks, tf.constant(normalizer)), greedy

    # Few different values: many are equal.
    for logits in (rng.normal(size=(3 * beam, columns)), rng.integers(0, 4, (3 * beam, columns))):
        logits = logits.astype(np.float32)
        found, greedy = expand(logits)
        total = alive[:, :, None] + (logits.reshape(3, beam, columns) - normalizer[:, :, None])
        np.testing.assert_array_equal(greedy.last_ids[:, 0], total[:, 0].argmax(axis=-1))
        expected = np.where([True, False, True], total[:, 0].max(axis=-1), MINUS_INFINITY)
        np.testing.assert_allclose(greedy.ranked[:, 0], expected, rtol=1e-6, atol=1e-6)
        best = np.sort(total.reshape(3, -1))[:, ::-1][:, : 2 * beam]
        np.testing.assert_array_equal(found.ranked, best)
        for line in range(3):
            parents, last_ids = found.parents.numpy()[line], found.last_ids.numpy()[line]
            places = list(zip(parents, last_ids, strict=True))
            assert len(set(places)) == 2 * beam
            np.testing.assert_array_equal([total[line][place] for place in places], best[line])


def test_search_of_no_line_gives_no_line() -> None:
    step, nobody = scripted({}), tf.zeros([0], tf.int32)
    for search, options in ((greedy_search, {}), (beam_search, {"beam_size": 3})):
        found = search(step, nobody, tf.zeros([0, 1]), max_length=4, **options)
        assert found.token_ids.shape == (0, 1, 5)


def test_limits_may_be_tensors() -> None:
    model = RandomChain(vocab_size=9, batch=3)
    numbers = {"max_length": tf.constant(5), "length_penalty": tf.constant(1.0)}
    plain = {"max_length": 5, "length_penalty": 1.0}
    for search, options in ((greedy_search, {}), (beam_search, {"beam_size": 3})):
        assert model.run(search, **options, **numbers) == model.run(search, **options, **plain)


@pytest.mark.parametrize("num_hypotheses", [0, 3])
def test_more_hypotheses_than_the_beam_holds_are_refused(num_hypotheses: int) -> None:
    with pytest.raises(ValueError, match=rf"num_hypotheses={num_hypotheses}, beam_size=2"):
        search_one({}, 2, 1, num_hypotheses=num_hypotheses)


@pytest.mark.parametrize(
    ("length", "length_penalty", "score"),
    [(1, 1.0, -6.0), (7, 1.0, -3.0), (13, 2.0, -6 / 9), (100, 0.0, -6.0)],
)
def test_score_divides_by_the_length(length: int, length_penalty: float, score: float) -> None:
    found = normalize_log_probs(tf.constant([-6.0]), tf.constant([length]), length_penalty)
    np.testing.assert_allclose(found, [score], rtol=1e-6)
