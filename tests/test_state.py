"""States of a language model: continuing from one is as if generation had never stopped."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import NumberTokenizer, generator_of, random_network

from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.config import DecodingConfig, ModelConfig
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.model.build import build_model
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

TEXTS = ["He eats an apple.\n", "Two birds built a nest here.\n", "春天到了，万物复苏。\n"] * 3


def make_generator(seed: int = 4) -> Generator:
    tokenizer = Tokenizer.train(
        TEXTS, type="bpe", vocab_size=330, byte_fallback=True, lossless=True
    )
    keras.utils.set_random_seed(seed)
    config = ModelConfig(architecture="language_model", embedding_dim=16, units=32, init_scale=0.8)
    return generator_of(
        build_model(config, tokenizer.vocab_size),
        tokenizer,
        tokenizer,
        defaults=DecodingConfig(max_length=60, beam_size=1),
        max_source_length=80,
        keep_end=True,
        heals=True,
    )


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator()


@pytest.mark.parametrize(
    "options",
    [
        {"max_loop_characters": 24},
        {"sample": True, "no_repeat_ngram": 3, "repetition_penalty": 1.2, "banned_texts": ("e",)},
    ],
)
def test_four_parts_are_the_whole_bit_for_bit(
    generator: Generator, options: dict[str, Any], tmp_path: Path
) -> None:
    for prompt in ("He eats an ap", "", "Two birds "):
        at_once = generator.read(prompt, **options)
        whole = generator.write(at_once, 60)
        state = generator.read(prompt, **options)
        parts = [generator.write(state, 15)]
        state.save(tmp_path / "one.state")
        state = generator.load_state(tmp_path / "one.state")
        fork = state.fork()
        parts += [generator.write(state, 15) for _ in range(3)]
        assert "".join(parts) == whole
        arrays = zip(*(tf.nest.flatten(one._record) for one in (state, at_once)), strict=True)
        assert all(np.array_equal(one, other) for one, other in arrays)
        streamed = generator.read(prompt, **options)
        pieces = list(generator.stream_state(streamed, 15))
        assert "".join(pieces) == parts[0] and all(pieces)
        assert "".join(generator.stream_state(streamed, 45)) == "".join(parts[1:])
        assert generator.write(fork, 15) == parts[1]
        ((best,),) = generator.hypotheses([prompt], **options)
        assert best.text.startswith(whole) and len(best.text) <= len(whole) + 3
    assert (tmp_path / "one.state").stat().st_size < 20_000


def test_a_fork_with_a_seed_has_another_ending(generator: Generator) -> None:
    state = generator.read("He", sample=True)
    one, other, same = state.fork(seed=1), state.fork(seed=2), state.fork(seed=1)
    texts = [generator.write(each, 20) for each in (state, one, other, same)]
    assert len(set(texts)) == 3 and texts[1] == texts[3]
    with pytest.raises(InputError, match="only where text is sampled"):
        generator.read("He").fork(seed=1)
    with pytest.raises(InputError, match="`seed` must be"):
        state.fork(seed=-1)
    with pytest.raises(InputError, match="Did you mean `seed`"):
        state.fork(sed=1)  # type: ignore[call-arg]


def test_memory_is_flat_over_many_tokens(generator: Generator) -> None:
    state = generator.read("He", sample=True, temperature=1.5)
    sizes = []
    for _ in range(6):
        generator.write(state, 300)
        sizes.append(sum(np.asarray(part).nbytes for part in tf.nest.flatten(state._record)))
    assert len(set(sizes[2:])) == 1


def test_a_prompt_longer_than_one_read_is_read_whole() -> None:
    generator = make_generator()
    generator.inputs.max_length = None
    long = "Two birds built a nest here.\n" * 90
    assert len(generator.inputs.encode_rows([long])[0]) > 600
    state = generator.read(long)
    ((best,),) = generator.hypotheses([long], max_length=20)
    assert best.text.startswith(generator.write(state, 20)) and best.text


def test_wrong_states_are_refused(generator: Generator, tmp_path: Path) -> None:
    state = generator.read("He")
    with pytest.raises(InputError, match="can be continued only with greedy search or sampling"):
        generator.read("He", beam_size=3)
    state.save(tmp_path / "one.state")
    with pytest.raises(InputError, match="is of another model"):
        make_generator(seed=5).load_state(tmp_path / "one.state")
    with pytest.raises(InputError, match="The state is of another model"):
        make_generator(seed=5).write(state, 3)
    with pytest.raises(RunError, match="does not exist, is damaged, or is another file"):
        generator.load_state(tmp_path / "none.state")
    state.save(tmp_path / "new" / "one.state")
    assert (tmp_path / "new" / "one.state").is_file()
    whole = (tmp_path / "one.state").read_bytes()
    (tmp_path / "cut.state").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged"):
        generator.load_state(tmp_path / "cut.state")
    translator = generator_of(
        random_network("additive", embedding_dim=8, units=16),
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(),
    )
    with pytest.raises(InputError, match="Only a language model has a state"):
        translator.read("7")


def test_a_text_that_has_ended_stays_so(generator: Generator) -> None:
    bias = generator.model.output_bias
    kept = bias.numpy()
    try:
        bias.assign(tf.one_hot(EOS_ID, len(kept), 99.0))
        state = generator.read("He")
        before = state.fork()
        assert repr(state).startswith("<GenerationState: greedy, model ")
        assert generator.write(state, 5) == ""
        assert state.has_ended and not before.has_ended
        assert repr(state) == repr(before).replace(">", ", ended>")
        assert generator.write(state, 5) == "" and list(generator.stream_state(state, 5)) == []
    finally:
        bias.assign(kept)


def test_an_archive_that_is_no_whole_state_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "one.state"
    generator.read("He").save(path)
    whole = load_archive(path)
    save_archive(path, whole.arrays.items(), {**whole.metadata, "format_version": 99})
    with pytest.raises(RunError, match=r"is no saved state \(format_version is 99\)"):
        generator.load_state(path)
    save_archive(path, whole.arrays.items(), {"format_version": 1})
    with pytest.raises(RunError, match="is no saved state"):
        generator.load_state(path)
    last = max(whole.arrays, key=int)
    for arrays in (
        {name: array for name, array in whole.arrays.items() if name != last},
        whole.arrays | {last: whole.arrays[last].astype(np.float64)},
    ):
        save_archive(path, arrays.items(), whole.metadata)
        with pytest.raises(RunError, match=r"one\.state is damaged\. Restore it from a copy"):
            generator.load_state(path)
