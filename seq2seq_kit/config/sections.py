"""What a run is: one frozen model a section, every key with its default and its meaning.

The only place where defaults stand, but for those that depend on the data: when training starts,
`rules.py` chooses vocabularies, length limits, sizes, dropout, batch, learning rate, label
smoothing, validation interval, the part held out of running text and BLEU's tokenizer, where a
config leaves them out; the defaults here are then those without data. Knows nothing of TensorFlow,
so that a config is checked in an instant. `load_config` reads YAML; `Config` is what the rest of
the package takes.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    model_validator,
)

from seq2seq_kit import bounds
from seq2seq_kit.config.adaptation import AdaptationConfig
from seq2seq_kit.config.decoding import DecodingConfig
from seq2seq_kit.config.section import (
    MAY_CHANGE,
    NOT_IN_WEIGHTS,
    BatchSize,
    Count,
    FilePath,
    Fraction,
    Layers,
    Minutes,
    Normalization,
    PositiveCount,
    Precision,
    Section,
    Share,
    Switch,
    Tokens,
    Width,
    as_list,
)

# Without `validate_every`, an epoch ends with a validation. After fewer steps than these, a model
# has learned too little to lower the learning rate or to end training by the result.
MIN_STEPS_TO_VALIDATION = 100


def as_corpus(value: Any) -> Any:
    """A corpus may be written as the path of a table alone, whose suffix says what it is."""
    if not isinstance(value, str | Path):
        return value
    suffix = Path(str(value).removesuffix(".gz")).suffix.lower()
    return {_KEYS_BY_SUFFIX.get(suffix, "tsv"): value}


def _column(value: Any) -> int | str:
    if isinstance(value, str) or (type(value) is int and 1 <= value <= bounds.MAX_COLUMN):
        return value
    if type(value) is int and value > bounds.MAX_COLUMN:
        raise ValueError(f"must be {bounds.MAX_COLUMN} or less")
    raise ValueError("must be a column counted from 1, or a column's name")


Column = Annotated[int | str, PlainValidator(_column)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(as_list), Field(min_length=1)]


# The keys of a corpus that name files of texts.
TEXT_KEYS = ("source", "target", "tsv", "csv", "jsonl", "lines", "text")
# Those of tables: files with a source and a target in each row.
_TABLE_KEYS = ("tsv", "csv", "jsonl")
_KEYS_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

CorpusKind = Literal["parallel", "tsv", "csv", "jsonl", "lines", "text"]
# The kinds whose rows are pairs.
PAIR_KINDS = ("parallel", *_TABLE_KEYS)


class CorpusConfig(Section):
    """A corpus is exactly one of parallel files, `tsv`, `csv`, `jsonl`, `lines` or `text`.

    Files are UTF-8, plain or gzipped. A path without a key is a `csv` or `jsonl` if its name ends
    so, otherwise a `tsv`.
    """

    source: FilePath | None = None
    """Parallel files: the file with the source texts, one a line."""
    target: FilePath | None = None
    """Parallel files: the file with the target texts, line by line with `source`."""
    tsv: FilePath | None = None
    """A file with tab-separated columns, one pair a line."""
    csv: FilePath | None = None
    """A file with columns separated by `delimiter`, one pair a row. Texts in double quotes may
    contain it, line breaks, and quotes written twice."""
    jsonl: FilePath | None = None
    """A file with a JSON object or array on each line, one pair each. Columns are the fields of the
    object, those of nested objects as `translation.de`; values are strings."""
    source_columns: Columns = (1,)
    """Tables (`tsv`, `csv`, `jsonl`): the columns of the source, counted from 1, or named if there
    is a `header` or the file is a `jsonl`; several are joined."""
    target_columns: Columns = (2,)
    """Tables: the columns of the target, in the same way."""
    join: str = " "
    """Tables: the text between joined columns."""
    header: Switch = False
    """`tsv`, `csv`: whether the first line names the columns."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1, pattern='[^"\\r\\n]')] = ","
    """`csv`: the character between columns."""
    bad_lines: Literal["error", "skip"] = "error"
    """Tables: what to do with rows that have another number of columns than the header or, without
    a header, than most of the first 1,000 rows, or that lack a field. A tab inside a text of a TSV
    shifts the columns after it. Skipped rows are counted and reported."""
    lines: FilePath | None = None
    """Continuation: a file with one independent text a line."""
    text: FilePath | None = None
    """Continuation: a file with running text, in which a newline is a token. A language model reads
    it from beginning to end."""
    separator: Literal["blank_line"] | None = None
    """`text`: what separates the texts of the file. With blank_line, lines without text do, and the
    model learns how a text begins and ends. By default the file is one text."""
    weight: Annotated[float, Field(gt=0.0, le=bounds.MAX_WEIGHT, strict=True)] = 1.0
    """How often each line is seen in an epoch; 0.5 uses another random half in each epoch."""

    @model_validator(mode="before")
    @classmethod
    def _path_means_tsv(cls, values: Any) -> Any:
        values = as_corpus(values)
        if not isinstance(values, dict):
            return values
        # An empty path would be the folder itself.
        return {
            key: None if key in TEXT_KEYS and value == "" else value
            for key, value in values.items()
        }

    @property
    def kind(self) -> CorpusKind:
        """Which kind of corpus this is."""
        return self._kinds()[0]

    @property
    def table(self) -> Path | None:
        """The file of a TSV, CSV or JSONL; None for other kinds."""
        return self.tsv or self.csv or self.jsonl

    @property
    def named_files(self) -> dict[str, Path]:
        """The files of texts under their keys."""
        return {key: path for key in TEXT_KEYS if (path := getattr(self, key)) is not None}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of texts."""
        return tuple(self.named_files.values())

    def _kinds(self) -> list[CorpusKind]:
        given: dict[CorpusKind, bool] = {
            "parallel": self.source is not None or self.target is not None,
            "tsv": self.tsv is not None,
            "csv": self.csv is not None,
            "jsonl": self.jsonl is not None,
            "lines": self.lines is not None,
            "text": self.text is not None,
        }
        return [kind for kind, is_given in given.items() if is_given]

    def _contradictions(self) -> dict[str, str]:
        kinds = self._kinds()
        if len(kinds) != 1:
            # In YAML, a key without a value.
            empty = [key for key in TEXT_KEYS if key in self.model_fields_set and not kinds]
            if empty:
                return dict.fromkeys(empty, "is empty. Name a file.")
            received = " and ".join(kinds) if kinds else "none of them"
            return {
                "": "must name exactly one kind of corpus: `source` with `target` (parallel files),"
                f" `tsv`, `csv`, `jsonl`, `lines` or `text`. Received: {received}."
            }
        faults = {}
        if self.separator is not None and kinds != ["text"]:
            faults["separator"] = "is used only with `text`. Remove it."
        faults |= self._unused_keys(kinds[0])
        if kinds == ["parallel"]:
            for key, other in (("source", "target"), ("target", "source")):
                if getattr(self, key) is None:
                    faults[key] = (
                        f"is required: parallel files need both sides, here `{other}` only."
                    )
        if kinds[0] in ("tsv", "csv"):
            faults |= self._column_faults()
        return faults

    def _unused_keys(self, kind: CorpusKind) -> dict[str, str]:
        """Keys that mean nothing for this kind of corpus."""
        unused = {} if kind == "csv" else {"delimiter": "csv"}
        if kind == "jsonl":
            unused["header"] = "tsv` or `csv"
        if kind not in _TABLE_KEYS:
            keys = ("source_columns", "target_columns", "join", "header", "bad_lines")
            unused |= dict.fromkeys(keys, "tsv`, `csv` or `jsonl")
        return {
            key: f"is used only with `{used_with}`. Remove it, or name the file so."
            for key, used_with in unused.items()
            if getattr(self, key) != type(self).model_fields[key].default
        }

    def _column_faults(self) -> dict[str, str]:
        """Columns can be named only if the first line of the file names them."""
        faults = {}
        for key in ("source_columns", "target_columns"):
            names = [column for column in getattr(self, key) if isinstance(column, str)]
            if names and not self.header:
                faults[key] = f"names a column, {names[0]!r}: this needs `header: true`."
        return faults


Corpora = Annotated[tuple[CorpusConfig, ...], BeforeValidator(as_list), Field(min_length=1)]


class DataConfig(Section):
    """The texts, and how long they may be."""

    root: FilePath = Path()
    """The folder from which relative paths of corpora start. It is itself relative to the config
    file."""
    train: Corpora
    """The training data."""
    validation: Corpora | None = None
    """The data that choose the best checkpoint. Without it, a part of the training data is held
    out."""
    test: Annotated[Corpora | None, MAY_CHANGE] = None
    """The data that are scored once, after training."""
    holdout: PositiveCount = 1000
    """Without `validation`: how many lines of the training data are held out, in running text how
    many thousands of tokens; at most a tenth."""
    max_source_length: Tokens = 100
    """The largest number of tokens of a source or prompt, EOS not counted."""
    max_target_length: Tokens = 100
    """The largest number of tokens of a target, EOS not counted."""
    long_lines: Literal["skip", "truncate", "error"] = "skip"
    """What to do with longer training lines. Skipped and truncated ones are counted and shown."""
    window: Annotated[int, Field(ge=2, le=bounds.MAX_TOKENS, strict=True)] = 64
    """Running text: the number of tokens of a training sequence. A language model continues from
    the state after the sequence before it; this is then the mean length, and how far gradients
    reach back."""
    bleu_tokenize: Annotated[Literal["13a", "intl", "zh", "char", "none"], MAY_CHANGE] = "13a"
    """sacrebleu's tokenizer for BLEU: 13a suits most languages, zh Chinese, none tokenized text."""

    def corpora(self) -> Iterator[tuple[str, CorpusConfig]]:
        """Every corpus with its key: `train`, or `train.0` if there are several."""
        for name in ("train", "validation", "test"):
            corpora = getattr(self, name) or ()
            for index, corpus in enumerate(corpora):
                yield (f"{name}.{index}" if len(corpora) > 1 else name), corpus

    @property
    def is_running_text(self) -> bool:
        """Whether training reads running text, rather than single lines."""
        return self.train[0].kind == "text"

    def _contradictions(self) -> dict[str, str]:
        faults = {}
        for key, corpus in self.corpora():
            if (corpus.kind == "text") != self.is_running_text:
                faults[key] = (
                    f"cannot be `{corpus.kind}` where `train` begins with `{self.train[0].kind}`:"
                    " running text (`text`) cannot be mixed with texts that are one a line."
                )
            if corpus.weight != 1.0 and not key.startswith("train"):
                faults[f"{key}.weight"] = "is used only in `train`. Remove it."
        return faults


class VocabularyConfig(Section):
    """A SentencePiece model, trained on the training data or given as a file."""

    type: Literal["unigram", "bpe", "word", "char"] = "unigram"
    """The SentencePiece algorithm."""
    vocab_size: Annotated[int, Field(ge=8, le=bounds.MAX_VOCAB_SIZE, strict=True)] = 8000
    """The number of pieces. If the data do not suffice for it, the largest possible number is used
    and reported."""
    character_coverage: Share = 1.0
    """The share of the characters of the text that are covered by pieces. Lower it (0.9995) for
    Chinese and Japanese."""
    byte_fallback: Switch | None = None
    """Whether unknown characters are spelled in UTF-8 bytes (256 pieces) instead of one unknown
    token. By default true if `vocab_size` has room for the bytes beside the characters."""
    user_defined_symbols: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that are always one token, such as tags."""
    lossless: Switch | None = None
    """Whether runs of spaces and newlines are kept. By default true for continuation, false for
    translation."""
    normalization: Normalization = "nfc"
    """The Unicode form of all texts, so that equivalent spellings get the same output. Invisible
    characters are dropped or become spaces (seq2seq_kit/text/normalization.py lists them). nfc
    changes nothing visible. nfd splits accents and Hangul syllables into their parts, which suits
    pronunciations; outputs are composed again. nfkc also replaces variants of characters: a
    full-width comma becomes a plain one. none changes nothing. The form is stored in the
    tokenizer's file; tokenizers without one, of older runs, have none."""
    model: FilePath | None = None
    """A SentencePiece `.model` file to use instead of training one. Of this section, only
    `normalization` then has an effect, unless the file contains its own."""


class TokenizerConfig(VocabularyConfig):
    """One vocabulary for both sides, or one for each under `source` and `target`."""

    source: VocabularyConfig | None = None
    """The vocabulary of the source alone; `target` is then required, too."""
    target: VocabularyConfig | None = None
    """The vocabulary of the target alone; `source` is then required, too."""

    def vocabularies(self) -> Iterator[tuple[str, VocabularyConfig]]:
        """Each vocabulary in use under its key: the shared one under `""`, or the two sides."""
        if self.source is None or self.target is None:
            yield "", self
        else:
            yield "source", self.source
            yield "target", self.target

    def _contradictions(self) -> dict[str, str]:
        if self.source is None and self.target is None:
            return {}
        if self.source is None:
            return {"source": "is required beside `target`: each side has its own vocabulary."}
        if self.target is None:
            return {"target": "is required beside `source`: each side has its own vocabulary."}
        shared_keys = set(VocabularyConfig.model_fields) - {"lossless"}  # filled in for every run
        return {
            key: "has no effect beside `source` and `target`. Set it under each of them."
            for key in sorted(shared_keys)
            if getattr(self, key) != VocabularyConfig.model_fields[key].default
            # Earlier versions wrote `byte_fallback: true` into every run's config.
            and not (key == "byte_fallback" and self.byte_fallback)
        }


def as_origin(value: Any) -> Any:
    """The run to start from may be written alone."""
    return {"run": value} if isinstance(value, str | Path) else value


class InitConfig(Section):
    """The weights that training starts from. A run or a name without a key is a `run`."""

    run: FilePath
    """A run folder, or the name of a packaged model (`s2s models` lists them). A folder of that
    name beside the config file comes first. Where `model` leaves out a size, it is that of this
    run; a size that contradicts the run is an error."""
    tokenizer: Switch | None = None
    """Whether the vocabulary of that run is used. By default true if the config has no `tokenizer`
    section. With another vocabulary, the pieces that both have keep their vectors, and the others
    start at random."""
    sha256: str | None = None
    """The SHA-256 of the file with the weights, filled in when training starts. A config that gives
    it starts from no other weights."""


class ModelConfig(Section):
    """The architecture of the network, and its sizes."""

    architecture: Literal["encoder_decoder", "language_model"] | None = None
    """By default encoder_decoder for translation, language_model for continuation."""
    embedding_dim: Width = 256
    """The size of an embedding."""
    units: Width = 512
    """The size of the decoder's LSTM state; each direction of the encoder has half of it."""
    encoder_layers: Layers = 1
    """The number of bidirectional LSTM layers of the encoder."""
    inner_units: Width | None = None
    """Language model: the size of the LSTM states of all layers but the last, at least `units`. By
    default it is `units`. Only layers of equal size have a residual connection."""
    decoder_layers: Layers = 1
    """The number of LSTM layers of the decoder or language model; from the second on they have
    residual connections."""
    cell: Literal["lstm", "gru", "simple_rnn"] = "lstm"
    """The cell of all recurrent layers. A gated recurrent unit and a simple recurrent layer without
    gates are for comparison; they train more slowly."""
    attention: Literal["additive", "multiplicative", "none"] = "additive"
    """How attention compares a decoder state with the encoder outputs. With none, the decoder sees
    nothing of the source but the encoder's last state."""
    attention_layer: Literal["first", "last"] = "last"
    """The decoder layer after which attention is computed; the layers after it read the context."""
    layer_normalization: Switch = False
    """Whether the output of each LSTM layer is normalized (Ba et al., 2016) before the residual
    connection."""
    dropout: Annotated[Fraction, NOT_IN_WEIGHTS] = 0.3
    """The dropout rate on embeddings, between LSTM layers and before the output layer."""
    input_dropout: Annotated[Fraction | None, NOT_IN_WEIGHTS] = None
    """The dropout rate on embeddings; by default `dropout`."""
    output_dropout: Annotated[Fraction | None, NOT_IN_WEIGHTS] = None
    """The dropout rate before the output layer; by default `dropout`."""
    locked_dropout: Annotated[Switch, NOT_IN_WEIGHTS] = False
    """Whether a row of a batch has the same dropout mask at all its positions (variational dropout,
    Gal and Ghahramani, 2016), instead of another one at each."""
    embedding_dropout: Annotated[Fraction, NOT_IN_WEIGHTS] = 0.0
    """The share of the vocabulary whose input embeddings are zeroed in a training step (Gal and
    Ghahramani, 2016), so that a word is missing wherever it occurs in the batch."""
    word_dropout: Annotated[Fraction, NOT_IN_WEIGHTS] = 0.0
    """The share of the input tokens of both sides, each drawn independently, that are replaced by
    the unknown token in a training step."""
    token_noise: Annotated[Fraction, NOT_IN_WEIGHTS] = 0.0
    """The share of the input tokens of both sides that are replaced by other tokens of the batch in
    a training step."""
    weight_drop: Annotated[Fraction, NOT_IN_WEIGHTS] = 0.0
    """The share of each recurrent kernel that is zeroed in a training step (DropConnect, Merity et
    al., 2018). cuDNN can still be used."""
    tie_embeddings: Switch = True
    """Whether the output layer shares the target embeddings, and with one vocabulary also the
    source embeddings. Its input then has `embedding_dim` features, otherwise `units`."""
    init_scale: Annotated[
        float, Field(gt=0.0, le=bounds.MAX_INIT_SCALE, strict=True), NOT_IN_WEIGHTS
    ] = 0.1
    """Initial weights are drawn uniformly from -init_scale to init_scale. Kernels that read
    embeddings start larger, and the output bias starts at the frequencies of the tokens."""

    def _contradictions(self) -> dict[str, str]:
        faults = {}
        if self.architecture != "language_model" and self.units % 2:
            faults["units"] = (
                "must be even, since each direction of the encoder has half of it."
                f" Received: {self.units}."
            )
        if self.inner_units is not None and self.decoder_layers < 2:
            faults["inner_units"] = "is used only with two `decoder_layers` or more. Remove it."
        elif self.inner_units is not None and self.inner_units < self.units:
            faults["inner_units"] = (
                f"must be at least `units`, here {self.units}. Received: {self.inner_units}."
            )
        if self.weight_drop and self.cell != "lstm":
            faults["weight_drop"] = f"is for `cell: lstm` only, here {self.cell}. Remove it."
        if self.attention == "none" and self.attention_layer != "last":
            faults["attention_layer"] = "has no meaning with `attention: none`. Remove it."
        return faults


Rate = Annotated[float, Field(ge=0.0, le=bounds.MAX_REGULARIZATION, strict=True)]


class EarlyStoppingConfig(Section):
    """When training stops, and which checkpoint is the best."""

    metric: Literal["loss", "bleu", "chrf"] = "loss"
    """The metric of the validation data that decides. For BLEU and chrF, the data are decoded
    greedily at each validation."""
    patience: Annotated[PositiveCount, MAY_CHANGE] = 4
    """The number of validations in a row without a better value after which training stops."""


class TrainingConfig(Section):
    """The optimizer, the limits of training, and what is written while it runs."""

    batch_size: BatchSize = 64
    """The size of a batch, in `batch_unit`. With `batch_unit: tokens` it defaults to 4096. A
    language model reads running text at this number of places at once."""
    batch_unit: Literal["sentences", "tokens"] = "sentences"
    """The unit of `batch_size`: sentences, or tokens, which are rows times padded length."""
    epochs: Annotated[PositiveCount | None, MAY_CHANGE] = None
    """The largest number of passes over the training data. Without this, `max_steps` and
    `max_minutes`, it is 30, or more if the data are so few that 3,000 steps take more passes."""
    max_steps: Annotated[PositiveCount | None, MAY_CHANGE] = None
    """The largest number of steps."""
    max_minutes: Annotated[Minutes | None, MAY_CHANGE] = None
    """The largest number of minutes of training by the clock, over all resumptions. The time of the
    last validation is included, as estimated from the one before."""
    learning_rate: Annotated[float, Field(gt=0.0, le=bounds.MAX_LEARNING_RATE, strict=True)] = 0.001
    """The learning rate of Adam; of a schedule other than plateau, the highest one."""
    weight_decay: Annotated[float, Field(ge=0.0, le=bounds.MAX_WEIGHT_DECAY, strict=True)] = 0.0
    """Decoupled weight decay (AdamW): at each step a weight loses this share of itself, times the
    learning rate. Biases and the gains of layer normalization are exempt. Values from 0.001 to 0.1
    are usual."""
    schedule: Literal["plateau", "cosine", "one_cycle", "inverse_sqrt"] = "plateau"
    """How the learning rate changes after `warmup_steps`. plateau multiplies it by `plateau_factor`
    when the validation loss has stopped falling. cosine lowers it to 0 along half a cosine.
    one_cycle raises it from a 25th in the first three tenths of the training and then lowers it to
    nearly 0, both along a cosine. inverse_sqrt multiplies it by sqrt(warmup_steps / step). cosine
    and one_cycle follow whichever of `epochs`, `max_steps` and `max_minutes` will be reached first;
    where a resumed run has a higher limit, the learning rate returns to that of its new place."""
    warmup_steps: Count = 0
    """The number of steps over which the learning rate rises linearly from 0. inverse_sqrt needs
    some; one_cycle has its own rise instead."""
    plateau_factor: Annotated[Share, MAY_CHANGE] = 0.5
    """With `schedule: plateau`, the factor for the learning rate when the validation loss has
    stopped falling."""
    plateau_patience: Annotated[PositiveCount, MAY_CHANGE] = 1
    """With `schedule: plateau`, the number of validations in a row without a better loss after
    which `plateau_factor` is applied."""
    averaging: Literal["none", "ema", "triggered"] = "none"
    """Which average of the weights is validated, kept as the best and used afterwards; training
    itself continues from the plain weights. ema is an exponential moving average. triggered is the
    mean of the weights of all steps since the validation loss stopped falling (NT-ASGD, Merity et
    al., 2018); before that, the plain weights are validated."""
    averaging_decay: Fraction = 0.999
    """With `averaging: ema`, the share of the average that stays at each step. 0.999 averages over
    about 1,000 steps; the first ones count equally."""
    averaging_patience: PositiveCount = 2
    """With `averaging: triggered`, the average begins when the validation loss is higher than the
    best one, and that was more than this number of validations ago. `early_stopping.patience` must
    be larger by at least 2, so that the average is tried."""
    clip_norm: Annotated[float, Field(gt=0.0, le=bounds.MAX_NORM, strict=True)] = 1.0
    """The global norm to which gradients are clipped."""
    label_smoothing: Fraction = 0.1
    """The share of the target probability that is spread over the whole vocabulary. It raises the
    training loss that is shown, but not the validation loss."""
    subword_sampling: Literal["none", "source", "target", "both"] = "none"
    """The sides whose texts are cut into other pieces in each epoch: subword regularization (Kudo,
    2018) with a unigram vocabulary, BPE-dropout (Provilkov et al., 2020) with BPE. A language model
    has only a target. Validation and decoding use the best segmentation. Texts get longer, and with
    them a batch."""
    subword_sampling_alpha: Share | None = None
    """How strong `subword_sampling` is. With a unigram vocabulary, the exponent of the
    probabilities, where less is more random; by default 0.2. With BPE, the share of the merges that
    are left out; by default 0.1."""
    dropout_warmup_steps: Count = 0
    """The number of steps over which dropout grows linearly from 0 to its rates (`model.dropout`,
    `input_dropout`, `output_dropout`). Dropout from the first step on slows the beginning of
    training."""
    r_drop: Rate = 0.0
    """The weight of the divergence between two passes over each batch with different dropout, which
    training adds to its loss so that they agree (alpha of R-Drop, Liang et al., 2021; 1 to 5 is
    usual). A step takes twice the memory and nearly twice the time. The loss that is shown is
    without it."""
    activation_regularization: Rate = 0.0
    """Language model: the factor of the mean square of the last LSTM layer's outputs, which
    training adds to its loss (Merity et al., 2017; 2 is usual). The loss that is shown is without
    it."""
    temporal_activation_regularization: Rate = 0.0
    """Language model: the same for the change of these outputs from one token to the next (1 is
    usual)."""
    validate_every: Annotated[PositiveCount | None, MAY_CHANGE] = None
    """The number of steps between validations. By default an epoch, or 100 steps if that is more.
    Training ends with a validation, unless the last one was less than a tenth of this ago."""
    validation_samples: Annotated[Count, MAY_CHANGE] = 3
    """The number of outputs that are printed at each validation, those of greedy search."""
    precision: Precision = "float32"
    """The precision of the matrix products of a training step; everything else is float32. bfloat16
    is faster on processors that support it (`s2s info RUN` says whether yours does) and slower on
    others."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When training stops, and which checkpoint is the best."""
    strategy: Annotated[Literal["default", "mirrored", "multi_worker"], MAY_CHANGE] = "default"
    """The tf.distribute strategy: one device, all GPUs of this machine (mirrored), or several
    machines that `TF_CONFIG` lists (multi_worker)."""
    tensorboard: Annotated[Switch, MAY_CHANGE] = True
    """Whether TensorBoard event files are written to RUN/logs."""
    report: Annotated[Switch, MAY_CHANGE] = True
    """Whether RUN/report.html is written: a page with curves, samples, the best and the worst
    lines, and what to try next. At the end of training it decodes up to 200 validation lines."""

    @property
    def sampled_sides(self) -> tuple[str, ...]:
        """The sides whose segmentations are sampled."""
        kinds = {"none": (), "both": ("source", "target")}
        return kinds.get(self.subword_sampling, (self.subword_sampling,))

    @property
    def has_no_limit(self) -> bool:
        """Whether nothing but early stopping was said to end training."""
        return self.epochs is None and self.max_steps is None and self.max_minutes is None

    @property
    def validation_interval(self) -> int:
        """Steps between two validations; without `validate_every`, at least this number."""
        return self.validate_every or MIN_STEPS_TO_VALIDATION

    def _contradictions(self) -> dict[str, str]:
        faults = {}
        if self.schedule != "plateau":
            for key in ("plateau_factor", "plateau_patience"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    faults[key] = "is used only with `schedule: plateau`. Remove it."
        if self.schedule == "inverse_sqrt" and not self.warmup_steps:
            faults["warmup_steps"] = (
                "must be at least 1 with `schedule: inverse_sqrt`, whose learning rate is"
                " proportional to sqrt(warmup_steps / step). Received: 0."
            )
        if self.schedule == "one_cycle" and self.warmup_steps:
            faults["warmup_steps"] = (
                "must be 0 with `schedule: one_cycle`, which begins with a warm-up already."
                f" Received: {self.warmup_steps}."
            )
        if self.subword_sampling_alpha is not None and self.subword_sampling == "none":
            faults["subword_sampling_alpha"] = "is used only with `subword_sampling`. Remove it."
        return faults | self._averaging_faults()

    def _averaging_faults(self) -> dict[str, str]:
        faults = {}
        for key, kind in (("averaging_decay", "ema"), ("averaging_patience", "triggered")):
            is_default = getattr(self, key) == type(self).model_fields[key].default
            if self.averaging != kind and not is_default:
                faults[key] = f"is used only with `averaging: {kind}`. Remove it."
        least, patience = self.averaging_patience + 2, self.early_stopping.patience
        if self.averaging == "triggered" and patience < least:
            faults["early_stopping.patience"] = (
                f"must be at least {least}, 2 more than `averaging_patience`; otherwise training"
                f" ends before averaged weights are tried. Received: {patience}."
            )
        return faults

    @staticmethod
    def default_epochs(steps_per_epoch: int) -> int:
        """Returns the number of epochs that applies where no limit is given."""
        return max(30, math.ceil(3000 / steps_per_epoch))


class Config(Section):
    """A whole run.

    What was left out is filled in, also where it depends on the task: `model.architecture` and the
    `lossless` of each vocabulary are never None here.
    """

    task: Literal["translation", "continuation"] = "translation"
    """translation maps a line to a line; continuation writes what follows a prompt."""
    seed: Annotated[int, Field(ge=0, lt=bounds.SEEDS, strict=True)] = 1
    """The seed of the initial weights, the order of the data, and dropout."""
    init_from: Annotated[InitConfig | None, BeforeValidator(as_origin)] = None
    """The run or packaged model whose weights training starts from, such as `de-en`: fine-tuning
    to other texts. By default, training starts from random weights."""
    data: DataConfig
    """The texts, and how long they may be."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The vocabulary, or one for each side."""
    model: ModelConfig = ModelConfig()
    """The network and its sizes."""
    training: TrainingConfig = TrainingConfig()
    """The optimizer and the limits of training."""
    decoding: Annotated[DecodingConfig, MAY_CHANGE] = DecodingConfig()
    """How outputs are chosen."""
    adaptation: Annotated[AdaptationConfig, MAY_CHANGE] = AdaptationConfig()
    """How a language model adapts to the text that it reads."""

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        model = self.model.model_copy(update={"architecture": self._architecture()})
        tokenizer = self._with_lossless(self.tokenizer)
        sides = {
            key: self._with_lossless(vocabulary)
            for key, vocabulary in self.tokenizer.vocabularies()
            if key
        }
        # A frozen model has no other way to set what depends on two of its sections.
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "tokenizer", tokenizer.model_copy(update=sides))
        object.__setattr__(self, "decoding", self._decoding())
        object.__setattr__(self, "training", self._training())
        return self

    @property
    def joins_texts(self) -> bool:
        """Whether prompts and continuations are parts of one text, cut anywhere.

        Not where an encoder-decoder learns from pairs, whose sides are separate texts, nor with
        a vocabulary for each side.
        """
        if self.task != "continuation" or self.tokenizer.source is not None:
            return False
        is_cut = all(corpus.kind in ("lines", "text") for corpus in self.data.train)
        return is_cut or self._architecture() == "language_model"

    @property
    def reads_streams(self) -> bool:
        """Whether a language model reads running text from beginning to end."""
        return self.data.is_running_text and self._architecture() == "language_model"

    def _architecture(self) -> str:
        default = "encoder_decoder" if self.task == "translation" else "language_model"
        return self.model.architecture or default

    def _training(self) -> TrainingConfig:
        """A batch counted in tokens is as large as one of 64 sentences, or as the longest line."""
        training = self.training
        if training.batch_unit == "sentences" or "batch_size" in training.model_fields_set:
            return training
        return training.model_copy(update={"batch_size": max(4096, self._longest_sequence())})

    def _decoding(self) -> DecodingConfig:
        defaults: dict[str, Any] = {"max_length": self.data.max_target_length}
        given = self.decoding.model_fields_set
        if self.decoding.sample:
            defaults["beam_size"] = 1
        if self.task == "continuation":
            defaults |= {"beam_size": 1, "max_loop_characters": 24}
            if "beam_size" not in given or self.decoding.beam_size == 1:
                defaults["sample"] = True
            if self.decoding.sample or ("sample" not in given and "sample" in defaults):
                defaults |= {"temperature": 0.8, "top_p": 0.9}
        # What is filled in here does not count as given.
        return DecodingConfig.model_construct(
            given, **dict(self.decoding) | {k: v for k, v in defaults.items() if k not in given}
        )

    def _with_lossless(self, vocabulary: VocabularyConfig) -> VocabularyConfig:
        if vocabulary.lossless is not None:
            return vocabulary
        return vocabulary.model_copy(update={"lossless": self.task == "continuation"})

    def _contradictions(self) -> dict[str, str]:
        decoding = self._decoding()
        sampling = decoding.contradictions(self.decoding.model_fields_set)
        return (
            {f"decoding.{key}": text for key, text in sampling.items()}
            | self._task_faults()
            | self._architecture_faults()
            | self._training_faults()
            | self._sampling_faults()
            | self._r_drop_faults()
        )

    def _r_drop_faults(self) -> dict[str, str]:
        """R-Drop compares passes whose masks differ from row to row."""
        model = self.model
        rates = (
            model.dropout,
            model.input_dropout,
            model.output_dropout,
            model.word_dropout,
            model.token_noise,
        )
        if not self.training.r_drop or any(rates):
            return {}
        return {
            "training.r_drop": "needs dropout: without it, the two passes over a batch are equal."
            " Set `model.dropout`, or remove it."
        }

    def _sampling_faults(self) -> dict[str, str]:
        """Reasons why segmentations cannot be sampled."""
        sides = self.training.sampled_sides
        if sides and self.reads_streams:
            return {
                "training.subword_sampling": "cannot be used where a language model reads running"
                " text (`text`). Give the texts one a line (`lines`), or remove it."
            }
        if "source" in sides and self._architecture() == "language_model":
            return {
                "training.subword_sampling": "must be target (or none) for a language model, which"
                f" reads a prompt and its continuation as one text. Received:"
                f" {self.training.subword_sampling!r}."
            }
        return {}

    def _task_faults(self) -> dict[str, str]:
        if self.task == "continuation":
            if not self.decoding.shortlist:
                return {}
            return {
                "decoding.shortlist": "is for `task: translation` only: the tokens of a prompt do"
                " not say what follows it. Received: true."
            }
        return {
            f"data.{key}.{corpus.kind}": "is for continuation only: a translation needs pairs,"
            " from `source` and `target` or `tsv`. Or set `task: continuation`."
            for key, corpus in self.data.corpora()
            if corpus.kind in ("lines", "text")
        }

    def _architecture_faults(self) -> dict[str, str]:
        if self._architecture() != "language_model":
            return self._language_model_keys()
        faults = {}
        if self.task == "translation":
            faults["model.architecture"] = (
                "must be encoder_decoder for `task: translation`. Received: 'language_model'."
            )
        if self.tokenizer.source is not None:
            faults["tokenizer.source"] = (
                "cannot be used with a language model, which reads prompt and continuation as one"
                " text. Use one vocabulary, or `model.architecture: encoder_decoder`."
            )
        return faults

    def _language_model_keys(self) -> dict[str, str]:
        """Keys that have no meaning for an encoder-decoder."""
        faults = {}
        if self.model.inner_units is not None:
            faults["model.inner_units"] = (
                "is for language models only: the layers of a decoder start from the states of the"
                " encoder, of `units`. Remove it."
            )
        for key in ("activation_regularization", "temporal_activation_regularization"):
            if getattr(self.training, key):
                faults[f"training.{key}"] = "is for language models only. Remove it."
        return faults

    def _training_faults(self) -> dict[str, str]:
        faults = {}
        metric = self.training.early_stopping.metric
        if metric != "loss" and any(
            c.kind in ("lines", "text") for c in self._validation_corpora()
        ):
            faults["training.early_stopping.metric"] = (
                f"must be loss here: {metric} compares outputs with references, which `lines` and"
                " `text` do not have."
            )
        longest = self._longest_sequence()
        is_given = "batch_size" in self.training.model_fields_set
        counts_tokens = is_given and self.training.batch_unit == "tokens"
        if counts_tokens and self.training.batch_size < longest:
            faults["training.batch_size"] = (
                f"must be at least {longest} with `batch_unit: tokens`, so that the longest line"
                f" allowed by `data` fits. Received: {self.training.batch_size}."
            )
        return faults

    def _validation_corpora(self) -> tuple[CorpusConfig, ...]:
        return self.data.validation or self.data.train

    def _longest_sequence(self) -> int:
        """Tokens of the longest row, with the EOS that a line gets."""
        if self.data.is_running_text:
            return self.data.window + 1
        return max(self.data.max_source_length, self.data.max_target_length) + 1
