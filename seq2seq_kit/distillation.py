"""A student that learns from the outputs of teachers: sequence-level knowledge distillation.

Reference: Kim and Rush, 2016, https://aclanthology.org/D16-1139
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seq2seq_kit.augmenting import WITHOUT_EFFECT, augment, describe_counts, identify
from seq2seq_kit.config import AugmentationConfig, Config, load_config
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import InputError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.checks import check_files
from seq2seq_kit.text.corpus import read_corpus
from seq2seq_kit.text.references import SourceWithReferences
from seq2seq_kit.training.run_folder import RunFolder, read_json, save_json

logger = logging.getLogger(__name__)


def distill(
    config: str | Path | Mapping[str, Any] | Config,
    teachers: Sequence[str | Path],
    run_dir: str | Path,
    *,
    options: AugmentationConfig | None = None,
    search: Mapping[str, Any] | None = None,
    with_original: bool = False,
    overrides: Sequence[str] = (),
    resume: bool = False,
) -> Seq2Seq:
    """Trains a student on the outputs of teachers for the sources of its training data.

    The pairs are kept in the run folder of the student as `distilled.jsonl`, and where they come
    from in `distillation.json`. After a stop, `resume` goes on with the pairs or with the training.

    Args:
        config: The config of the student, as in `Seq2Seq.fit`. It names validation data.
        teachers: Run folders or names of packaged models; several are an ensemble.
        run_dir: The run folder of the student.
        options: Which outputs are kept; by default the best ones.
        search: Options of the teachers' search, fields of `DecodingConfig`.
        with_original: Whether the student learns from the original pairs, too.
        overrides: As in `Seq2Seq.fit`.
        resume: Go on with the run in that folder.

    Raises:
        InputError: As `augment` and `Seq2Seq.fit`; or if the config continues prompts or names no
            validation data, or the folder holds pairs of other teachers, texts or options.
        TrainingInterrupted: As `Seq2Seq.fit`.
    """
    run = RunFolder(Path(run_dir))
    resolved = load_config(config, overrides)
    _check(resolved)
    check_files(resolved, str(config) if isinstance(config, str | Path) else "config")
    if not resume:
        run.check_new()
    pairs = _write_pairs(resolved, teachers, run, options or AugmentationConfig(), search or {})
    corpora: list[dict[str, Any]] = [
        {"jsonl": str(pairs), "source_columns": ["source"], "target_columns": ["target"]}
    ]
    if with_original:
        corpora += [
            corpus.model_dump(mode="json", exclude_defaults=True) for corpus in resolved.data.train
        ]
    return Seq2Seq.fit(
        config,
        overrides=[*overrides, f"data.train={json.dumps(corpora, ensure_ascii=False)}"],
        run_dir=run.path,
        resume=resume and run.last.is_file(),
    )


def _check(config: Config) -> None:
    """Raises InputError if a student cannot be trained by a config."""
    if config.task != "translation":
        raise InputError("Only a model for translation is distilled. Received: task: continuation.")
    if config.data.validation is None:
        raise InputError(
            "`data.validation` is required for distillation: lines held out of the training data "
            "would be outputs of the teacher, which measure how well the student imitates it. Name "
            "validation data."
        )


def _write_pairs(
    config: Config,
    teachers: Sequence[str | Path],
    run: RunFolder,
    options: AugmentationConfig,
    search: Mapping[str, Any],
) -> Path:
    """Returns the file with the pairs, which is written unless it is there already."""
    pairs, record = run.path / "distilled.jsonl", run.path / "distillation.json"
    digests = FileDigests()
    job = {
        "teachers": identify(teachers),
        "texts": [digests.of(path) for corpus in config.data.train for path in corpus.files],
        "options": options.model_dump(mode="json"),
        "options of the search": {
            name: value for name, value in search.items() if name not in WITHOUT_EFFECT
        },
    }
    if record.is_file() and pairs.is_file():
        before = read_json(record)
        if changed := [name for name, value in job.items() if before.get(name) != value]:
            raise InputError(
                f"{pairs} was written with other {', '.join(changed)}. Give the same to go on, or "
                f"choose another run folder (--run-dir, in Python run_dir=...)."
            )
        logger.info("The pairs in %s are whole.", pairs)
        return pairs.absolute()
    lines = _count(config)
    counts = augment(teachers, _read(config), pairs, options, search=search, num_lines=lines)
    for sentence in describe_counts(counts):
        logger.info("%s", sentence)
    names = [str(teacher) for teacher in teachers]
    save_json(record, job | {"teacher_runs": names, "counts": counts})
    return pairs.absolute()


def _read(config: Config) -> Iterator[SourceWithReferences]:
    """Yields the sources of the training data with their targets."""
    for corpus in config.data.train:
        for pair in read_corpus(corpus):
            yield SourceWithReferences(pair.line, pair.source, [pair.target])


def _count(config: Config) -> int:
    return sum(1 for _ in _read(config))
