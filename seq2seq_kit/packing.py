"""Makes a packaged model from a run: small weights, no state of training, a card.

Maintainers run it as `python -m seq2seq_kit.packing RUN NAME --card CARD.md`. The packed model is
compared with its run on the validation data before it is kept.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import yaml

from seq2seq_kit.archive import save_archive
from seq2seq_kit.atomic import remove_folder, write_folder
from seq2seq_kit.config import load_saved_config, save_config
from seq2seq_kit.config.load import without_folders
from seq2seq_kit.digests import FileDigests, digest
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.pretrained import catalog
from seq2seq_kit.pretrained.card import Card, PackedCard, Packing, parse_card
from seq2seq_kit.pretrained.catalog import CARD, PretrainedModel, folder_size
from seq2seq_kit.pretrained.compact import Storage, compact
from seq2seq_kit.startup import load_tensorflow, show_log

if TYPE_CHECKING:
    from seq2seq_kit.data.texts import TextPairs
    from seq2seq_kit.inference.generator import Hypothesis
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.training.run_folder import RunFolder

# A packed model whose perplexity is this much above that of its run is not kept.
_LARGEST_RISE = 0.05


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Markdown with a head of YAML; docs/models.md describes it.",
)
@click.option(
    "--weights",
    type=click.Choice(get_args(Storage)),
    default="int8",
    show_default=True,
    help="How matrices are stored.",
)
@click.option(
    "--lines",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Lines of the validation data to compare the packed model and the run on.",
)
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    default=catalog.FOLDER,
    help="Folder of packaged models.  [default: that of the package]",
)
def main(run: Path, name: str, card: Path, weights: Storage, lines: int, models: Path) -> None:
    """Make the packaged model NAME from the run folder RUN; a model of that name is replaced."""
    show_log(force=True)
    load_tensorflow()
    try:
        packed = pack_run(run, name, card, weights=weights, num_lines=lines, models=models)
    except (InputError, RunError) as error:
        click.echo(f"packing: error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    click.echo(f"{packed.folder}: {packed.size:,} bytes")
    for key, value in packed.metadata.packing.model_dump(exclude_none=True).items():
        click.echo(f"  {key:<18} {value}")


def pack_run(
    run: Path,
    name: str,
    card: Path,
    *,
    weights: Storage,
    num_lines: int,
    models: Path,
) -> PretrainedModel:
    """Writes a packaged model, in place of one of the same name, and returns it.

    Args:
        run: A run folder, whose data are where its config says.
        name: The name of the model.
        card: Its card; the head has the keys of `Card`.
        weights: How matrices are stored.
        num_lines: Lines of the validation data to compare the model and the run on.
        models: The folder of packaged models.

    Raises:
        InputError: If the name or the card cannot be used, or the data are not those of the run.
        RunError: If the model is too large, or predicts worse than its run.
    """
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.training.run_folder import RunFolder

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InputError(
            f"The name of a packaged model must be of lower-case letters, digits and hyphens, "
            f"such as `de-en`. Received: {name!r}."
        )
    head, body = parse_card(card.read_text(encoding="utf-8"), str(card), Card)
    folder = RunFolder(run).open_trained()
    texts = _validation_texts(folder, num_lines)
    models.mkdir(parents=True, exist_ok=True)
    with write_folder(models / name, "The packaged model") as new:
        _write_files(folder, RunFolder(new), weights)
        _check_size(new, models / name)
        before, after = Seq2Seq.load(folder.path), Seq2Seq.load(new)
        packing = _compare(before, after, texts, weights)
        parameters = after.model.count_params()
        packed = PackedCard(
            **dict(head), task=after.config.task, parameters=parameters, packing=packing
        )
        (new / CARD).write_text(_card(packed, body), encoding="utf-8")
        if (models / name).exists():
            remove_folder(models / name)
    return PretrainedModel(name, models / name)


def _write_files(run: "RunFolder", new: "RunFolder", weights: Storage) -> None:
    """Writes everything but the card; the config, which lists the digests, comes last."""
    from seq2seq_kit.training.checkpoint import load_best
    from seq2seq_kit.training.run_files import load_tokenizers

    saved = load_saved_config(run.config)
    tokenizers = load_tokenizers(run, saved)
    best = load_best(run, saved)
    run_name = saved.run or digest(run.best.read_bytes())[:16]
    arrays = compact(best.arrays.items(), weights)
    save_archive(new.best, arrays, {**best.metadata, "run": run_name}, "The weights")
    written = [new.best]
    for side, tokenizer in tokenizers.by_name().items():
        tokenizer.save(new.tokenizer(side))
        written.append(new.tokenizer(side))
    for old, path in ((run.shortlist, new.shortlist), (run.data, new.data)):
        if old.is_file():
            shutil.copyfile(old, path)
            written.append(path)
    for old, path in ((run.metrics, new.metrics), (run.results, new.results)):
        if old.is_file():
            shutil.copyfile(old, path)
    files = {path.name: digest(path.read_bytes()) for path in written}
    save_config(without_folders(saved.config), new.config, run=run_name, files=files)


def _check_size(new: Path, path: Path) -> None:
    """Raises RunError if a model is too large, or with it all models together."""
    size = folder_size(new)
    others = sum(
        folder_size(card.parent) for card in path.parent.glob(f"*/{CARD}") if card.parent != path
    )
    for total, limit, what in (
        (size, catalog.MAX_MODEL_BYTES, f"The packaged model {path.name}"),
        (size + others, catalog.MAX_TOTAL_BYTES, "All packaged models together"),
    ):
        if total > limit:
            raise RunError(
                f"{what} would have {total:,} bytes; at most {limit:,} are allowed. Use "
                f"--weights int8, or train a smaller model."
            )


def _validation_texts(run: "RunFolder", num_lines: int) -> "TextPairs":
    """Returns the first lines of the validation data that a run was trained with."""
    from seq2seq_kit.data.sets import encode_data
    from seq2seq_kit.data.texts import TextPairs, validation_texts
    from seq2seq_kit.training.run_files import changed_data, load_tokenizers

    saved, digests = load_saved_config(run.config), FileDigests()
    if changed := changed_data(run, saved.config, saved, digests):
        raise InputError(
            f"The data of {run.path} are not those that it was trained with: "
            f"{'; '.join(changed)}. Restore them, so that the packed model can be compared."
        )
    tokenizers = load_tokenizers(run, saved)
    validation = encode_data(saved.config, tokenizers, digests).validation
    texts = validation_texts(saved.config, validation, tokenizers, digests)
    return TextPairs(texts.sources[:num_lines], texts.targets[:num_lines])


@dataclass(frozen=True)
class _Measured:
    """What a model does with the validation texts."""

    outputs: "Sequence[Hypothesis]"
    perplexity: float
    bleu: float | None


def _compare(before: "Seq2Seq", after: "Seq2Seq", texts: "TextPairs", weights: Storage) -> Packing:
    """Returns how a packed model compares with its run; raises RunError if it is worse."""
    old, new = _measure(before, texts), _measure(after, texts)
    if not new.perplexity <= (1 + _LARGEST_RISE) * old.perplexity:
        raise RunError(
            f"With --weights {weights}, the perplexity per token rises from {old.perplexity:.4g} "
            f"to {new.perplexity:.4g}; at most {_LARGEST_RISE:.0%} are allowed. Use another form."
        )
    pairs = zip(old.outputs, new.outputs, strict=True)
    return Packing(
        weights=weights,
        lines=len(texts.sources),
        different_outputs=sum(one.text != other.text for one, other in pairs),
        perplexity_before=round(old.perplexity, 4),
        perplexity_after=round(new.perplexity, 4),
        bleu_before=old.bleu,
        bleu_after=new.bleu,
    )


def _measure(model: "Seq2Seq", texts: "TextPairs") -> _Measured:
    from seq2seq_kit.inference.evaluation import compare_hypotheses
    from seq2seq_kit.inference.scorer import perplexity

    outputs = [best for best, *_ in model.hypotheses(texts.sources, truncate=True)]
    scores = model.score(texts.sources, texts.targets, truncate=True)
    per_token = perplexity(scores, texts.targets).per_token
    bleu = None
    if model.config.task == "translation":
        compared = compare_hypotheses(
            outputs,
            [[target] for target in texts.targets],
            model.tokenizer,
            tokenize=model.config.data.bleu_tokenize,
            counts_cut=True,
        )
        bleu = round(compared.bleu, 2)
    return _Measured(outputs, per_token, bleu)


def _card(head: PackedCard, body: str) -> str:
    values: dict[str, Any] = head.model_dump(mode="json", exclude_none=True)
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n{body}"


if __name__ == "__main__":
    main()
