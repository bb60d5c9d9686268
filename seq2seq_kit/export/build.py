"""From a trained model to its export: a network, its description, and inputs to verify it with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seq2seq_kit.config import Config, DecodingConfig, package_versions
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.folder import FORMAT_VERSION, ExportFormat, LongLines
from seq2seq_kit.export.litert import check_litert, export_litert
from seq2seq_kit.export.module import ExportModule
from seq2seq_kit.export.saved_model import export_model
from seq2seq_kit.export.verify import make_probes
from seq2seq_kit.inference.build import build_generator, text_end
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.model.build import build_network
from seq2seq_kit.pretrained.compact import Storage, compact, expand
from seq2seq_kit.training.checkpoint import variable_arrays


def export_run(
    path: Path,
    config: Config,
    generator: Generator,
    tokenizers: Tokenizers,
    shortlist: Shortlist | None,
    *,
    decoding: DecodingConfig,
    export_format: ExportFormat,
    long_lines: LongLines,
    weights: Storage,
    results: Mapping[str, Any],
) -> None:
    """Writes a verified export of a trained model.

    Args:
        path: A folder that does not exist yet, or is empty.
        config: The config of the run.
        generator: The generator, whose model is exported.
        tokenizers: The tokenizers of both sides.
        shortlist: The lexical shortlist, if there is one.
        decoding: The options of the search, fixed in the export.
        export_format: "saved_model", or "litert".
        long_lines: What the export does with an input that has too many tokens.
        weights: How the matrices are stored.
        results: The results of training, for the description.

    Raises:
        InputError: If `path` is in use, a package that the format needs is not installed, or the
            format lacks an option.
        RunError: If the export answers other than the generator, or cannot be written.
    """
    if export_format == "litert":
        check_litert(decoding)
        if weights == "bfloat16":
            raise InputError(
                "`weights` must be float32, float16 or int8 with `export_format` litert. Received: "
                "bfloat16."
            )
    # A second network, because the graph of the first one may hold cuDNN's ops, which need a GPU.
    model = build_network(config, tokenizers, use_cudnn=False)
    trained = generator.model.trainable_variables
    for new, old in zip(model.trainable_variables, trained, strict=True):
        new.assign(old)
    arrays = None
    if weights != "float32" and export_format == "saved_model":
        arrays = dict(compact(variable_arrays(model.trainable_variables, "weights"), weights))
        for variable, array in zip(model.trainable_variables, expand(arrays).values(), strict=True):
            variable.assign(array)
        # The export must answer as the run does with these weights.
        generator = build_generator(config, model, tokenizers, shortlist)
    metadata = _describe(config, generator, tokenizers, decoding, long_lines, results)
    metadata["weights"] = weights
    probes = make_probes(generator, decoding, long_lines)
    if export_format == "litert":
        export_litert(
            model,
            path,
            generator.inputs,
            tokenizers,
            config,
            decoding=decoding,
            weights=weights,
            metadata=metadata,
            probes=probes,
        )
        return
    search = ModelSearch(
        model,
        tokenizers.target,
        continues=config.task == "continuation",
        heals=config.joins_texts,
        shortlist=shortlist,
    )
    module = ExportModule(
        search,
        generator.inputs,
        decoding=decoding,
        long_lines=long_lines,
        ends_with=text_end(config, tokenizers.target),
        compact=arrays,
        metadata=metadata,
    )
    export_model(module, path, probes)


def _describe(
    config: Config,
    generator: Generator,
    tokenizers: Tokenizers,
    decoding: DecodingConfig,
    long_lines: LongLines,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the description of an export; it says nothing about where and by whom it was made."""
    return {
        "format_version": FORMAT_VERSION,
        "task": config.task,
        "corpora": [
            {"kind": corpus.kind, "separator": corpus.separator} for corpus in config.data.train
        ],
        "has_one_tokenizer": tokenizers.source is tokenizers.target,
        "max_source_length": generator.inputs.max_length,
        "long_lines": long_lines,
        "num_hypotheses": 1 if decoding.sample else decoding.beam_size,
        "decoding": decoding.model_dump(mode="json"),
        "tokenizers": {
            side: {
                "vocab_size": tokenizer.vocab_size,
                "lossless": tokenizer.lossless,
                "normalization": tokenizer.text_rules.normalization,
            }
            for side, tokenizer in tokenizers._asdict().items()
        },
        "model": config.model.model_dump(mode="json")
        | {"parameters": generator.model.count_params()},
        "results": dict(results),
        "versions": package_versions("tensorflow-text"),
    }
