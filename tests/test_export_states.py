"""States of a language model in an export, against those of the Python API."""

import json

import numpy as np
import pytest
import tensorflow as tf
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.export import saved_model
from seq2seq_kit.export.codec import Codec
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.export.states import GrowingText
from seq2seq_kit.export.verify import FreshAnswers
from seq2seq_kit.inference.certain_text import CertainText
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.models import ServedExport
from seq2seq_kit.tokens.tokenizer import Tokenizer

OPTIONS = {"sample": True, "temperature": 2.0, "seed": 5}
PROMPTS = ["one two", "", "春天 sev"]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    return untrained_writer(tmp_path_factory.mktemp("writer"))


@pytest.fixture(scope="module")
def sampling_export(writer: Seq2Seq, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    path = tmp_path_factory.mktemp("exports") / "sampling"
    with pytest.MonkeyPatch.context() as patch:
        # The tests below compare it with the same model.
        patch.setattr(saved_model, "verify_export", lambda *_: FreshAnswers([], "", {}))
        writer.export(path, **OPTIONS)
    return ExportedModel(path)


def test_a_sampling_export_gives_several_samples(
    sampling_export: ExportedModel, writer: Seq2Seq
) -> None:
    for number in (1, 3):
        expected = writer.hypotheses(PROMPTS, num_hypotheses=number, **OPTIONS)
        found = sampling_export.hypotheses(PROMPTS, num_hypotheses=number)
        assert [[one.text for one in line] for line in found] == [
            [one.text for one in line] for line in expected
        ]
    served = ServedExport(sampling_export)
    assert served.options({}).decoding is None
    for given, seed in (({}, 5), ({"sample": True}, 5), ({"seed": 9}, 9)):
        decoding = served.options(given, num_hypotheses=3).decoding
        assert decoding is not None
        assert decoding.seed == seed
    with pytest.raises(InputError, match="This export samples"):
        served.options({"sample": False})


def test_a_text_in_parts_is_that_of_the_python_api(
    sampling_export: ExportedModel, writer: Seq2Seq
) -> None:
    for prompt in PROMPTS:
        state = writer.read(prompt, **OPTIONS)
        expected = [writer.generate(state=state, max_length=5)[0] for _ in range(4)]
        parts = sampling_export.read(prompt)
        assert [sampling_export.write(parts, 5) for _ in range(4)] == expected
        at_once = sampling_export.read(prompt)
        assert sampling_export.write(at_once, 20) == "".join(expected)
        for name, part in at_once.tensors.items():
            np.testing.assert_array_equal(parts.tensors[name], part, strict=True)


def test_a_server_hands_the_state_to_its_client_and_back(sampling_export: ExportedModel) -> None:
    served = ServedExport(sampling_export)
    state = served.call("read", {"inputs": ["one two"], "seed": 5})
    expected = sampling_export.read("one two", seed=5)
    for number in (3, 8):
        through_json = json.loads(json.dumps(state))
        state = served.call("continue", {"max_length": number, **through_json})
        assert state.pop("outputs") == [sampling_export.write(expected, number)]
    for changed, message in (
        ({"cell_0": [[0.0]]}, "`cell_0` must be float32"),
        ({"cell_0": "x"}, "`cell_0` must be float32"),
        ({"history_length": [2**40]}, "`history_length` must be int32"),
        ({"max_length": 0}, "refuses its inputs: .*`max_length` must be from 1"),
        ({"more": [1]}, "The inputs of `continue` must be"),
    ):
        with pytest.raises(InputError, match=message):
            served.call("continue", {"max_length": 3, **state, **changed})


def test_states_of_a_batch_are_those_of_single_prompts(sampling_export: ExportedModel) -> None:
    signatures = tf.saved_model.load(str(sampling_export.path)).signatures
    state = signatures["read"](inputs=tf.constant(PROMPTS), seed=tf.constant(9, tf.int64))
    for number in (3, 8):
        state = signatures["continue"](max_length=tf.constant(number), **state)
        outputs = [text.decode() for text in state.pop("outputs").numpy()]
    for place, prompt in enumerate(PROMPTS):
        single = sampling_export.read(prompt, seed=9)
        twin = single.fork()
        assert [sampling_export.write(single, number) for number in (3, 8)][1] == outputs[place]
        np.testing.assert_array_equal(single.tensors["hidden_0"][0], state["hidden_0"][place])
        assert sampling_export.write(twin, 11).endswith(outputs[place])


def test_a_look_into_an_export_finds_what_one_into_its_run_does(
    sampling_export: ExportedModel, writer: Seq2Seq
) -> None:
    found, expected = (insight.trace(one, "one", "two") for one in (sampling_export, writer))
    assert (found.input_tokens, found.attention) == (expected.input_tokens, None)
    for part in ("input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"):
        arrays = (getattr(one.layers["decoder_0"], part) for one in (found, expected))
        np.testing.assert_array_equal(*arrays)
    surprises = (insight.surprise(one, "one", "two").nats for one in (sampling_export, writer))
    np.testing.assert_array_equal(*surprises)


def test_a_state_of_another_export_is_refused(sampling_export: ExportedModel) -> None:
    state = sampling_export.read("one")
    del state.tensors["cell_0"]
    with pytest.raises(InputError, match="state is of another export"):
        sampling_export.write(state)
    with pytest.raises(InputError, match="`max_length` must be"):
        sampling_export.write(sampling_export.read("one"), -1)


@pytest.mark.parametrize(
    ("lossless", "normalization"), [(True, "nfc"), (False, "nfc"), (False, "nfd")]
)
def test_the_graph_holds_back_what_the_python_api_holds_back(
    lossless: bool, normalization: str
) -> None:
    tokenizer = Tokenizer.train(
        ["a é ▁ b  c"] * 9,
        type="char",
        vocab_size=300,
        byte_fallback=True,
        lossless=lossless,
        normalization=normalization,
    )
    inputs = InputEncoder(
        tokenizer,
        reads_prompt=True,
        max_length=None,
        keep_end=True,
        answers_empty=True,
        marks_spaces=False,
    )
    search = ModelSearch.__new__(ModelSearch)  # Only its tokenizer is used.
    search.tokenizer, search.heals = tokenizer, False
    text = GrowingText(search, Codec(inputs, tokenizer))
    rng = np.random.default_rng(1)
    leads = [tokenizer.surfaces.index(bytes([byte])) for byte in (0xC3, 0xE0, 0xE6, 0xED, 0xF0)]
    for _ in range(6):
        state = {"last_token": tf.zeros([1], tf.int32), "has_ended": tf.constant([False])}
        state = text.start(state, tf.constant([False]))
        certain = CertainText(tokenizer)
        for _ in range(8):
            ids = rng.integers(4, tokenizer.vocab_size, rng.integers(1, 5))
            ids = np.where(rng.random(len(ids)) < 0.3, rng.choice(leads), ids)
            found = text.go_on(state, tf.constant([ids], tf.int32), state["has_ended"])
            expected = certain.add(ids.tolist())
            assert found.pop("outputs")[0].numpy().decode() == expected
            state |= found
        found = text.go_on(state, tf.constant([[3]]), tf.constant([True]))
        assert found["outputs"][0].numpy().decode() == certain.close()
