"""Training that starts from the weights of another run or of a packaged model: `init_from`."""

import logging
from typing import NamedTuple

import numpy as np

from seq2seq_kit.config import Config, InitConfig, SavedConfig, load_saved_config
from seq2seq_kit.config.faults import Fault, list_faults
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import digest_file
from seq2seq_kit.errors import ConfigError, InputError
from seq2seq_kit.model.networks import TokenModel
from seq2seq_kit.pretrained.catalog import find_model
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.checkpoint import assign_variables, load_best
from seq2seq_kit.training.run_files import load_shortlist, load_tokenizers
from seq2seq_kit.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class Origin(NamedTuple):
    """The run that a training starts from."""

    init: InitConfig
    """The key that names it."""
    name: str
    """What to call it in messages."""
    run: RunFolder
    """Its folder."""
    saved: SavedConfig
    """Its config."""
    sha256: str
    """The digest of the file with its weights."""

    @property
    def tokenizers(self) -> Tokenizers:
        """Its tokenizers, loaded from the folder."""
        return load_tokenizers(self.run, self.saved)

    @property
    def shortlist(self) -> Shortlist | None:
        """Its shortlist, loaded from the folder; None for a continuation."""
        return load_shortlist(self.run, self.saved, self.tokenizers)


def open_origin(config: Config, config_name: str = "config") -> Origin | None:
    """Returns the run that `init_from` names; None for a config without.

    Args:
        config: A config from `load_config`.
        config_name: What to call it in messages.

    Raises:
        ConfigError: If there is no such run, or its weights are not those that the config expects.
        RunError: If its config is damaged.
    """
    if (init := config.init_from) is None:
        return None
    try:
        # A relative path is the name of a packaged model: there is no such folder.
        path = init.run if init.run.is_absolute() else find_model(str(init.run)).folder
        run = RunFolder(path).open_trained()
    except InputError as error:
        message = str(error)
        if not init.run.is_absolute():
            message = f"There is no folder {init.run} beside the config file. {message}"
        raise ConfigError(list_faults(config_name, [Fault("init_from.run", message)])) from error
    sha256 = digest_file(run.best)
    if init.sha256 not in (None, sha256):
        fault = Fault(
            "init_from.sha256",
            f"must be that of {run.best}, which is {sha256}. Received: {init.sha256}. Restore the "
            f"weights that it belongs to, or remove the key.",
        )
        raise ConfigError(list_faults(config_name, [fault]))
    return Origin(init, init.run.name, run, load_saved_config(run.config), sha256)


def start_from(origin: Origin, model: TokenModel, tokenizers: Tokenizers) -> None:
    """Gives a network the weights of an origin.

    Where the vocabularies differ, the pieces that both have keep their vectors, and the others keep
    those that the network has.

    Args:
        origin: The run to start from, with the same sizes.
        model: The network.
        tokenizers: Its tokenizers.

    Raises:
        RunError: If the weights are damaged or do not fit.
    """
    best, olds = load_best(origin.run, origin.saved), origin.tokenizers
    shared = {
        "source": _shared_pieces(olds.source, tokenizers.source),
        "target": _shared_pieces(olds.target, tokenizers.target),
    }
    places = {id(one.variable): one for one in model.vocabulary_weights()}
    arrays = {}
    # `assign_variables` refuses another number of them.
    for (name, array), variable in zip(
        best.arrays.items(), model.trainable_variables, strict=False
    ):
        if (place := places.get(id(variable))) is not None:
            old, new = shared[place.side]
            value = np.array(variable.numpy())
            np.moveaxis(value, place.axis, 0)[new] = np.moveaxis(array, place.axis, 0)[old]
            arrays[name] = value
        else:
            arrays[name] = array
    assign_variables(model.trainable_variables, best._replace(arrays=arrays), "weights")
    for side, tokenizer in tokenizers.by_name().items():
        kept = len(shared["target" if side == "shared" else side][1])
        logger.info(
            "Training starts from the weights of %s: %s of the %s pieces of the %s vocabulary keep "
            "their vectors%s.",
            origin.name,
            f"{kept:,}",
            f"{tokenizer.vocab_size:,}",
            side,
            "" if kept == tokenizer.vocab_size else "; the others start at random",
        )


def _shared_pieces(old: Tokenizer, new: Tokenizer) -> tuple[list[int], list[int]]:
    """Returns the ids of the pieces that both vocabularies have, in the old one and in the new."""
    # The surface distinguishes a byte from a text that looks like the name of one.
    old_pieces, new_pieces = (zip(one.pieces, one.surfaces, strict=True) for one in (old, new))
    old_ids = {piece: index for index, piece in enumerate(old_pieces)}
    shared = [(old_ids[piece], index) for index, piece in enumerate(new_pieces) if piece in old_ids]
    return [old_id for old_id, _ in shared], [new_id for _, new_id in shared]
