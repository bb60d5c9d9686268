"""SentencePiece models as protocol buffers: read, checked, and changed where that is needed."""

import math
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from seq2seq_kit import bounds
from seq2seq_kit.errors import ConfigError

UNIGRAM = 1  # TrainerSpec.ModelType
NORMAL, USER_DEFINED, BYTE = 1, 4, 6  # SentencePiece.Type

# Sums of scores below 2**14 in steps of 2**-10 fit in the 24 bits of a float32 and are exact.
_SCORE_STEPS = 2**10

# The parts of a SentencePiece model that are read or changed here; protobuf keeps the others. The
# class that comes with sentencepiece is no help: it refuses every protobuf runtime older than the
# one it was generated with, and TensorFlow runs with older ones.
# Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
_SCHEMA = """
name: "seq2seq_kit/sentencepiece_model.proto"
package: "seq2seq_kit"
message_type { name: "Piece"
  field { name: "piece" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "score" number: 2 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type { name: "TrainerSpec"
  field { name: "input" number: 1 label: LABEL_REPEATED type: TYPE_STRING }
  field { name: "model_prefix" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type { name: "Rules"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "charsmap" number: 2 label: LABEL_OPTIONAL type: TYPE_BYTES }
  field { name: "add_dummy_prefix" number: 3 label: LABEL_OPTIONAL
          type: TYPE_BOOL default_value: "true" }
  field { name: "remove_extra_whitespaces" number: 4 label: LABEL_OPTIONAL
          type: TYPE_BOOL default_value: "true" }
  field { name: "rule_file" number: 6 label: LABEL_OPTIONAL type: TYPE_STRING }
}
message_type { name: "Model"
  field { name: "pieces" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Piece" }
  field { name: "trainer" number: 2 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.TrainerSpec" }
  field { name: "normalizer" number: 3 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Rules" }
  field { name: "denormalizer" number: 5 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".seq2seq_kit.Rules" }
}
"""


def _model_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("seq2seq_kit.Model"))


ModelProto = _model_class()
"""The message class of a whole model."""


def parse_model(model_proto: bytes) -> Any:
    """Returns a SentencePiece model as a `ModelProto`.

    Raises:
        ConfigError: If the bytes are no such model, or it has too many pieces or a faulty one.
    """
    try:
        model = ModelProto.FromString(model_proto)
    except message.DecodeError as error:
        raise ConfigError(not_a_model(str(error))) from error
    if not 0 < len(model.pieces) <= bounds.MAX_VOCAB_SIZE:
        raise ConfigError(not_a_model(f"it has {len(model.pieces):,} pieces"))
    if not all(_is_sound(piece) for piece in model.pieces):
        raise ConfigError(not_a_model("a piece has no text, or a score that is not a number"))
    return model


def _is_sound(piece: Any) -> bool:
    # Protobuf gives a string that is not UTF-8 as bytes.
    return isinstance(piece.piece, str) and piece.piece != "" and math.isfinite(piece.score)


def not_a_model(reason: str) -> str:
    """Returns the message for data that are no SentencePiece model."""
    return (
        f"Expected a SentencePiece model, but the data are none ({reason}). "
        "Name the `.model` file that SentencePiece or `save` wrote."
    )


def surface(piece: Any) -> bytes:
    """Returns what a piece adds to a text: UTF-8, its byte, or nothing for the special tokens."""
    if piece.type == BYTE:
        return bytes([int(piece.piece[1:-1], 16)])
    return piece.piece.encode() if piece.type in (NORMAL, USER_DEFINED) else b""


def without_paths(model_proto: bytes, model: Any) -> bytes:
    """Removes the paths that `spm_train` stores, from both: they say who trained it, and where."""
    places = (
        (model.trainer, "input"),
        (model.trainer, "model_prefix"),
        (model.normalizer, "rule_file"),
        (model.denormalizer, "rule_file"),
    )
    present = [(part, name) for part, name in places if getattr(part, name)]
    for part, name in present:
        part.ClearField(name)
    return bytes(model.SerializeToString()) if present else model_proto


def with_exact_scores(model_proto: bytes, model: Any) -> bytes:
    """Rounds the scores of a unigram model so that their sums are exact; others are unchanged."""
    if model.trainer.model_type != UNIGRAM:
        return model_proto
    exact = ModelProto()
    exact.CopyFrom(model)
    for piece in exact.pieces:
        piece.score = round(piece.score * _SCORE_STEPS) / _SCORE_STEPS
        # SentencePiece scores these as length * best score - 0.1, which is no float32. As normal
        # pieces that cost nothing they win too. Only where text is not normalized: their type also
        # protects them from that.
        if piece.type == USER_DEFINED and not exact.normalizer.charsmap:
            piece.type, piece.score = NORMAL, 0.0
    return model_proto if exact == model else bytes(exact.SerializeToString())


def with_finite_scores(model_proto: bytes) -> bytes:
    """Gives the lowest finite score to characters that the training texts lack.

    The score of a character is the logarithm of its share, and theirs is 0.
    """
    model = ModelProto.FromString(model_proto)
    scores = [piece.score for piece in model.pieces]
    if all(map(math.isfinite, scores)):
        return model_proto
    lowest = min(filter(math.isfinite, scores))
    for piece in model.pieces:
        piece.score = max(piece.score, lowest)
    return bytes(model.SerializeToString())
