"""The network of an export, rebuilt from its weights and its description, to look inside it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seq2seq_kit.config import Config, DecodingConfig, load_config
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import RunError
from seq2seq_kit.export.codec import SOURCE_TOKENIZER, TARGET_TOKENIZER
from seq2seq_kit.export.stored_weights import Place, read_weight
from seq2seq_kit.inference.build import build_generator, build_scorer
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.inputs import input_encoder
from seq2seq_kit.inference.shortlist import FREQUENT, TRANSLATIONS
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Stands for the names of the training files, which an export does not hold.
_NO_FILE = "not-in-the-export"


class RebuiltModel:
    """A network with its tokenizers, as `insight` looks at it; it can be looked at like a run.

    Args:
        model: The network.
        tokenizers: The tokenizers of both sides.
        config: A config with the sections `model` and `decoding` of the run. Its training files
            have no names, and the section `training` is not that of the run.
        shortlist: The lexical shortlist, if the search uses one.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        tokenizers: Tokenizers,
        config: Config,
        shortlist: Shortlist | None,
    ) -> None:
        self.model = model
        """The network."""
        self.tokenizer = tokenizers.target
        """The tokenizer of the outputs."""
        self.source_tokenizer = tokenizers.source
        """The tokenizer of the inputs."""
        self.config = config
        """The config."""
        self.inputs = input_encoder(config, tokenizers.source)
        """What encodes inputs."""
        self.generator = build_generator(config, model, tokenizers, shortlist)
        """What generates texts."""
        self.scorer = build_scorer(config, model, tokenizers)
        """What scores texts."""
        self._tokenizers = tokenizers
        self._shortlist = shortlist

    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text; options as in `Generator.hypotheses`."""
        return self.generator.hypotheses(texts, **options)

    def generate(self, texts: Iterable[str], **options: Any) -> list[str]:
        """Returns the best output of each text; options as in `Generator.hypotheses`."""
        return [best.text for best, *_ in self.hypotheses(texts, **options)]

    def copy(self) -> Self:
        """Returns the same model with weights that can be changed without changing these."""
        model = build_network(self.config, self._tokenizers)
        model.set_weights(self.model.get_weights())
        return type(self)(model, self._tokenizers, self.config, self._shortlist)


def rebuild_model(
    config: Config, content: bytes, places: Sequence[Place], variables: Sequence[tf.Variable]
) -> RebuiltModel:
    """Returns the model of an export.

    Its weights are those with which the export computes: rounded, where they are stored so.

    Args:
        config: From `described_config`.
        content: The file `saved_model.pb`, checked.
        places: The places of the weights in the variables.
        variables: The weights of the loaded export, in their order.

    Raises:
        RunError: If these do not fit together.
    """
    with _explain_description():
        constants = _Constants(content)
        tokenizers = constants.tokenizers()
        network = build_network(config, tokenizers)
        weights = [read_weight(place, variables) for place in places]
        for variable, array in zip(network.trainable_variables, weights, strict=True):
            variable.assign(array)
        shortlist = constants.shortlist() if config.decoding.shortlist else None
    return RebuiltModel(network, tokenizers, config, shortlist)


@contextmanager
def _explain_description() -> Iterator[None]:
    """Raises RunError where the description of an export does not fit what is done in the body."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"The description of the export does not fit its graph ({error}). Copy the export "
            f"again from where it was made, or export the run again."
        ) from error


class _Constants:
    """What the graph of an export holds besides weights.

    Args:
        content: The file `saved_model.pb`.
    """

    def __init__(self, content: bytes) -> None:
        (graph,) = SavedModel.FromString(content).meta_graphs
        nodes = [node for one in graph.graph_def.library.function for node in one.node_def]
        # A repeated name gets a number.
        self._arrays = {
            re.sub(r"_\d+$", "", _scopes(node)[-1]): node for node in nodes if node.op == "Const"
        }
        self._tokenizers = {_scopes(n)[-2]: n for n in nodes if n.op == "SentencepieceOp"}

    def tokenizers(self) -> Tokenizers:
        """Returns the tokenizers of both sides; raises KeyError if there is none."""
        source = Tokenizer(self._tokenizers[SOURCE_TOKENIZER].attr["model"].s)
        if TARGET_TOKENIZER not in self._tokenizers:
            return Tokenizers(source, source)
        return Tokenizers(source, Tokenizer(self._tokenizers[TARGET_TOKENIZER].attr["model"].s))

    def shortlist(self) -> Shortlist:
        """Returns the shortlist of the search; raises KeyError if there is none."""
        return Shortlist(self._array(FREQUENT), self._array(TRANSLATIONS))

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = tf.make_ndarray(self._arrays[name].attr["value"].tensor)
        return array


def _scopes(node: NodeDef) -> list[str]:
    return str(node.name).split("/")


def described_config(metadata: Mapping[str, Any]) -> Config:
    """Returns a config with all that the metadata of an export say.

    Raises:
        RunError: If they are damaged.
    """
    with _explain_description():
        return _config(metadata)


def _config(metadata: Mapping[str, Any]) -> Config:
    corpora = []
    for corpus in metadata["corpora"]:
        keys = ("source", "target") if corpus["kind"] == "parallel" else (corpus["kind"],)
        corpora.append(dict.fromkeys(keys, _NO_FILE) | {"separator": corpus["separator"]})
    data: dict[str, Any] = {"train": corpora}
    if metadata["max_source_length"] is not None:
        data["max_source_length"] = metadata["max_source_length"]
    model = {key: value for key, value in metadata["model"].items() if key != "parameters"}
    sides: dict[str, Any] = {"source": {}, "target": {}}
    if metadata["has_one_tokenizer"]:
        sides = {}
    values = {"task": metadata["task"], "data": data, "model": model, "tokenizer": sides}
    # The options of the search are all given, which a config would find contradictory.
    decoding = DecodingConfig.model_validate(metadata["decoding"])
    return load_config(values).model_copy(update={"decoding": decoding})
