"""Processes forked from one in which TensorFlow has computed, or has not."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from reference import NumberTokenizer, generator_of, random_network, scorer_of

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import RunError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.seq2seq import Seq2Seq

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")

_network: list[Any] = []


def use(name: str) -> Any:
    """Uses a model in a forked process."""
    limits: dict[str, Any] = {"max_source_length": 9, "keep_end": False}
    tokenizers = NumberTokenizer(), NumberTokenizer()
    if name == "generate":
        generator = generator_of(_network[0], *tokenizers, defaults=DecodingConfig(), **limits)
        return list(generator.hypotheses(["7"]))
    if name == "score":
        return scorer_of(_network[0], *tokenizers, ends_with=3, **limits).score(["7"], ["7"])
    if name == "fit":
        return Seq2Seq.fit({})
    return {"load": Seq2Seq.load, "export": ExportedModel}[name]("nowhere")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_forked_after_loading_is_a_clear_error() -> None:
    _network[:] = [random_network("multiplicative", embedding_dim=4, units=4)]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for name in ("generate", "score", "fit", "load", "export"):
            with pytest.raises(RunError, match=r"was forked after TensorFlow.*context\('spawn'\)"):
                pool.apply(use, [name])
    check_not_forked()  # The parent is not affected.


_FORK_THEN_LOAD = """
import os, sys
sys.path.insert(0, "tests")
if sys.argv[2] == "keras":
    import keras
import seq2seq_kit
if sys.argv[2] == "seq2seq_kit":
    assert not {"keras", "tensorflow", "pydantic"} & set(sys.modules)
    import keras
child = os.fork()
if child == 0:
    from reference import random_network
    from seq2seq_kit import EncoderDecoder
    from seq2seq_kit.training.losses import MaskedCrossEntropy
    from seq2seq_kit.training.optimizer import FusedAdam
    from seq2seq_kit.forking import check_not_forked
    check_not_forked()
    model = random_network("additive", embedding_dim=4, units=4)
    model.compile(FusedAdam(0.1), MaskedCrossEntropy())
    model.save(sys.argv[1])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
model = keras.models.load_model(sys.argv[1])
print(type(model).__name__, type(model.optimizer).__name__, type(model.loss).__name__)
"""


@pytest.mark.parametrize("first", ["keras", "seq2seq_kit"])
def test_a_process_forked_before_computes_and_keras_finds_the_classes_it_saved(
    tmp_path: Path, first: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FORK_THEN_LOAD, str(tmp_path / "model.keras"), first],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "EncoderDecoder FusedAdam MaskedCrossEntropy\n"
