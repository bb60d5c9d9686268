"""A small Transformer in PyTorch, trained on the bundled pairs and run by CTranslate2, as a peer.

    python benchmarks/peers/transformer.py train FOLDER [--minutes 40]
    python benchmarks/peers/transformer.py translate FOLDER --compute-type int8 < in.txt > out.txt

Needs torch, ctranslate2, sentencepiece and numpy. It has the vocabulary and the pairs of the
packaged `de-en`. The sizes are those of a "Transformer-Tiny" (6 encoder layers and 2 decoder layers
of 256, feed-forward layers of 1,024). `train` keeps the weights with the lowest loss on the
development set and converts them; `translate` answers standard input, each line as it comes, or
1,024 lines at once with `--batch-size`.
"""

import argparse
import gzip
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

PACKAGE = Path(__file__).parents[2] / "seq2seq_kit"
TOKENIZER = PACKAGE / "pretrained" / "models" / "de-en" / "shared.model"
DATA = PACKAGE / "samples" / "data"
PAD, BOS, EOS = 0, 2, 3
LONGEST = 100
LINES_AT_ONCE = 1024


def read_pairs(path: Path) -> list[tuple[list[int], list[int]]]:
    """Returns German and English ids of a TSV of English and German; without special ids."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = [line.split("\t") for line in text.splitlines()]
    sources, targets = (processor.encode([row[column] for row in rows]) for column in (1, 0))
    pairs = zip(sources, targets, strict=True)
    return [(source, target) for source, target in pairs if max(map(len, (source, target))) < 60]


def positions(units: int) -> np.ndarray:
    """Returns sinusoidal position encodings, float32 `(LONGEST, units)`."""
    rate = np.exp(np.arange(units // 2) * -(math.log(10000) / (units // 2 - 1)))
    angles = np.arange(LONGEST)[:, None] * rate
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def build(sizes: dict[str, Any]) -> Any:
    """Returns the network: one embedding for both sides and the output layer."""
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            units = sizes["units"]
            self.embedding = nn.Embedding(sizes["vocab_size"], units)
            nn.init.normal_(self.embedding.weight, std=units**-0.5)
            self.bias = nn.Parameter(torch.zeros(sizes["vocab_size"]))
            self.register_buffer("positions", torch.from_numpy(positions(units)), persistent=False)
            self.dropout = nn.Dropout(sizes["dropout"])
            self.body = nn.Transformer(
                units,
                sizes["heads"],
                sizes["encoder_layers"],
                sizes["decoder_layers"],
                sizes["inner_units"],
                sizes["dropout"],
                batch_first=True,
                norm_first=True,
            )

        def embed(self, ids: torch.Tensor) -> torch.Tensor:
            scaled = self.embedding(ids) * sizes["units"] ** 0.5
            return self.dropout(scaled + self.positions[: ids.shape[1]])

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            is_padding = source == PAD
            outputs = self.body(
                self.embed(source),
                self.embed(target),
                tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1]),
                src_key_padding_mask=is_padding,
                memory_key_padding_mask=is_padding,
                tgt_is_causal=True,
            )
            return nn.functional.linear(outputs, self.embedding.weight, self.bias)

    return Transformer()


def batches(pairs: list[Any], tokens: int, seed: int | None) -> Iterator[tuple[Any, Any, Any]]:
    """Yields sources, decoder inputs and targets of about `tokens` target tokens, padded."""
    import torch

    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    groups, group, longest = [], [], 0
    for pair in order:
        longest = max(longest, len(pair[0]) + 1, len(pair[1]) + 1)
        if group and longest * (len(group) + 1) > tokens:
            groups.append(group)
            group, longest = [], max(map(len, pair)) + 1
        group.append(pair)
    groups.append(group)
    if seed is not None:
        np.random.default_rng(seed).shuffle(groups)

    def padded(rows: list[list[int]]) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])

    for group in groups:
        yield (
            padded([[*source, EOS] for source, _ in group]),
            padded([[BOS, *target] for _, target in group]),
            padded([[*target, EOS] for _, target in group]),
        )


def train(folder: Path, minutes: float, sizes: dict[str, Any]) -> None:
    """Trains for some minutes and writes the converted model of the best validation."""
    import torch

    folder.mkdir(parents=True)
    torch.manual_seed(1)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))
    sizes = {"vocab_size": processor.get_piece_size(), **sizes}
    network = build(sizes)
    training = read_pairs(DATA / "tatoeba_en_de.train.tsv.gz")
    development = read_pairs(DATA / "tatoeba_en_de.dev.tsv")
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.98), eps=1e-9)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.1)
    begun, best = time.monotonic(), math.inf
    endless = (batch for n in itertools.count() for batch in batches(training, 4096, n))
    for step in itertools.count(1):
        used = (time.monotonic() - begun) / (60 * minutes)
        # Up over 400 steps, then down to zero at the end of the time.
        rate = 2e-3 * min(step / 400, 1.0) * max(0.0, 1 - used)
        for group in optimizer.param_groups:
            group["lr"] = rate
        source, inputs, targets = next(endless)
        loss = loss_of(network(source, inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 250 and used < 1:
            continue
        validation = validate(network, development)
        sys.stderr.write(f"step {step} minutes {used * minutes:.1f} loss {validation:.4f}\n")
        if validation < best:
            best = validation
            weights = {name: value.clone() for name, value in network.state_dict().items()}
        if used >= 1:
            break
    arrays = {name: value.numpy() for name, value in weights.items()}
    for compute_type in ("float32", "int8"):
        convert(arrays, sizes, folder / compute_type, compute_type)
    parameters = sum(value.size for value in arrays.values())
    facts = {**sizes, "minutes": minutes, "steps": step, "loss": best, "parameters": parameters}
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def validate(network: Any, pairs: list[Any]) -> float:
    """Returns the loss of a network, in nats a token."""
    import torch

    loss_of = torch.nn.CrossEntropyLoss(ignore_index=PAD, reduction="sum")
    network.eval()
    with torch.no_grad():
        summed = tokens = 0.0
        for source, inputs, targets in batches(pairs, 4096, None):
            logits = network(source, inputs)
            summed += float(loss_of(logits.flatten(0, 1), targets.flatten()))
            tokens += float((targets != PAD).sum())
    network.train()
    return summed / tokens


def convert(arrays: dict[str, np.ndarray], sizes: dict[str, Any], path: Path, dtype: str) -> None:
    """Writes weights as a model of CTranslate2."""
    import ctranslate2

    spec = ctranslate2.specs.TransformerSpec.from_config(
        (sizes["encoder_layers"], sizes["decoder_layers"]),
        sizes["heads"],
        pre_norm=True,
        activation=ctranslate2.specs.Activation.RELU,
    )
    fill = Filler(arrays)
    for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = stack.embeddings
        embeddings = embeddings[0] if isinstance(embeddings, list) else embeddings
        embeddings.weight = arrays["embedding.weight"].copy()
        stack.scale_embeddings = True
        stack.position_encodings.encodings = positions(sizes["units"])
        fill.linear(stack.layer_norm, f"body.{side}.norm", norm=True)
        for place, layer in enumerate(stack.layer):
            name = f"body.{side}.layers.{place}"
            fill.attention(layer.self_attention, f"{name}.self_attn", [3])
            fill.linear(layer.self_attention.layer_norm, f"{name}.norm1", norm=True)
            if side == "decoder":
                fill.attention(layer.attention, f"{name}.multihead_attn", [1, 2])
                fill.linear(layer.attention.layer_norm, f"{name}.norm2", norm=True)
            fill.linear(layer.ffn.linear_0, f"{name}.linear1")
            fill.linear(layer.ffn.linear_1, f"{name}.linear2")
            last = "norm3" if side == "decoder" else "norm2"
            fill.linear(layer.ffn.layer_norm, f"{name}.{last}", norm=True)
    spec.decoder.projection.weight = arrays["embedding.weight"].copy()
    spec.decoder.projection.bias = arrays["bias"].copy()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))
    pieces = [processor.id_to_piece(place) for place in range(processor.get_piece_size())]
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.add_source_eos = True
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = pieces[1:4]
    spec.config.decoder_start_token = pieces[BOS]
    spec.validate()
    spec.optimize(quantization=None if dtype == "float32" else dtype)
    path.mkdir()
    spec.save(str(path))


class Filler:
    """Copies weights of PyTorch into a specification of CTranslate2, which changes them in place.

    Args:
        arrays: The weights by their names.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def linear(self, target: Any, name: str, *, norm: bool = False) -> None:
        """Sets weight and bias, which a normalization calls gamma and beta."""
        weight, bias = self.arrays[f"{name}.weight"].copy(), self.arrays[f"{name}.bias"].copy()
        if norm:
            target.gamma, target.beta = weight, bias
        else:
            target.weight, target.bias = weight, bias

    def attention(self, target: Any, name: str, parts: list[int]) -> None:
        """Sets the projections of queries, keys and values, joined as CTranslate2 wants them."""
        weight = self.arrays[f"{name}.in_proj_weight"].copy()
        bias = self.arrays[f"{name}.in_proj_bias"].copy()
        ends = np.cumsum(parts)[:-1] * weight.shape[1]
        joined = zip(np.split(weight, ends), np.split(bias, ends), strict=True)
        for place, (part_weight, part_bias) in enumerate(joined):
            target.linear[place].weight, target.linear[place].bias = part_weight, part_bias
        self.linear(target.linear[-1], f"{name}.out_proj")


def translate(folder: Path, compute_type: str, beam_size: int, batch_size: int) -> None:
    """Writes the translation of each line of standard input."""
    import ctranslate2

    processor = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))
    translator = ctranslate2.Translator(
        str(folder / compute_type), compute_type=compute_type, intra_threads=1, inter_threads=1
    )
    at_once = 1 if batch_size == 1 else LINES_AT_ONCE
    while lines := list(itertools.islice(sys.stdin, at_once)):
        tokens = processor.encode([line.rstrip("\n") for line in lines], out_type=str)
        found = translator.translate_batch(
            tokens, beam_size=beam_size, max_batch_size=batch_size, max_decoding_length=LONGEST
        )
        for one in found:
            sys.stdout.write(processor.decode(one.hypotheses[0]) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Trains, or translates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["train", "translate"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--inner-units", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--encoder-layers", type=int, default=6)
    parser.add_argument("--decoder-layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--compute-type", default="float32", choices=["float32", "int8"])
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1)
    given = parser.parse_args()
    if given.task == "translate":
        translate(given.folder, given.compute_type, given.beam_size, given.batch_size)
        return
    names = ("units", "inner_units", "heads", "encoder_layers", "decoder_layers", "dropout")
    train(given.folder, given.minutes, {name: getattr(given, name) for name in names})


if __name__ == "__main__":
    main()
