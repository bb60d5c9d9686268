"""Networks as a config describes them."""

from pathlib import Path

from small_config import config_of

from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.networks import EncoderDecoder


def test_the_network_fits_the_tokenizers(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    for sections, shared in (({}, True), ({"tokenizer": {"source": side, "target": side}}, False)):
        config = config_of(folder, **sections)
        tokenizers = build_tokenizers(config, FileDigests())
        model = build_network(config, tokenizers, use_cudnn=False)
        assert isinstance(model, EncoderDecoder)
        assert model.vocab_size == tokenizers.target.vocab_size
        assert model.source_vocab_size == (None if shared else tokenizers.source.vocab_size)
        assert model.get_config()["use_cudnn"] is False
