"""The common model written by hand in PyTorch 2, as a peer: training speed.

    python benchmarks/peers/torch_seq2seq.py IDS.npz --seconds 40

Needs torch and numpy alone. The model is that of `benchmarks/configs/common.yaml`: packed
bidirectional encoder, one call over the whole target, "general" attention, no input feeding.
Prints a line of JSON.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

PAD, BOS, EOS = 0, 2, 3
BATCH_SIZE = 64
POOL = 50 * BATCH_SIZE  # Rows that are sorted by length together.


class Seq2Seq(nn.Module):
    """Embeddings 256, encoder 2 x 256, decoder 512, output layer 512 to the vocabulary."""

    def __init__(self, vocab_size: int, embedding_dim: int = 256, units: int = 512) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(vocab_size, embedding_dim)
        self.target_embedding = nn.Embedding(vocab_size, embedding_dim)
        self.encoder = nn.LSTM(embedding_dim, units // 2, bidirectional=True, batch_first=True)
        self.decoder = nn.LSTM(embedding_dim, units, batch_first=True)
        self.keys = nn.Linear(units, units, bias=False)
        self.combine = nn.Linear(2 * units, units, bias=False)
        self.output = nn.Linear(units, vocab_size)
        self.dropout = nn.Dropout(0.3)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self, source: torch.Tensor, lengths: torch.Tensor, inputs: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """Returns the logits of the real target positions, `(tokens, vocab_size)`."""
        packed = pack_padded_sequence(self.source_embedding(source), lengths, batch_first=True)
        encoded, state = self.encoder(packed)
        memory, _ = pad_packed_sequence(encoded, batch_first=True)
        state = tuple(torch.cat([part[0], part[1]], -1).unsqueeze(0) for part in state)
        queries, _ = self.decoder(self.target_embedding(inputs), state)
        scores = torch.bmm(queries, self.keys(memory).transpose(1, 2))
        weights = scores.masked_fill((source == PAD).unsqueeze(1), -1e9).softmax(-1)
        context = torch.bmm(weights, memory)
        combined = torch.tanh(self.combine(torch.cat([context, queries], -1)))
        return self.output(self.dropout(combined[real]))


def batches(
    sources: list[torch.Tensor], targets: list[torch.Tensor], seed: int
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields padded batches of rows with like lengths, in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sources))
    chosen = []
    for first in range(0, len(order), POOL):
        pool = sorted(
            order[first : first + POOL], key=lambda row: (len(targets[row]), len(sources[row]))
        )
        chosen += [pool[at : at + BATCH_SIZE] for at in range(0, len(pool), BATCH_SIZE)]
    for place in rng.permutation(len(chosen)):
        rows = sorted(chosen[place], key=lambda row: -len(sources[row]))
        lengths = torch.tensor([len(sources[row]) for row in rows])
        source = pad_sequence([sources[row] for row in rows], batch_first=True)
        target = pad_sequence([targets[row] for row in rows], batch_first=True)
        bos = torch.full((len(rows), 1), BOS)
        yield source, lengths, torch.cat([bos, target[:, :-1]], 1), target


def rows(ids: np.ndarray, lengths: np.ndarray) -> list[torch.Tensor]:
    """Returns each row of a flat array with EOS behind it."""
    ends = np.cumsum(lengths)
    return [
        torch.tensor([*ids[end - length : end], EOS])
        for end, length in zip(ends, lengths, strict=True)
    ]


def main() -> None:
    """Trains for some seconds and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--warmup-steps", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(1)
    data = np.load(arguments.ids)
    sources = rows(data["source_ids"], data["source_lengths"])
    targets = rows(data["target_ids"], data["target_lengths"])
    model = Seq2Seq(int(data["vocab_size"]))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    num_tokens = positions = 0
    for step, (source, lengths, inputs, target) in enumerate(batches(sources, targets, seed=1)):
        if step == arguments.warmup_steps:
            num_tokens = positions = 0
            started = time.perf_counter()
        real = target != PAD
        logits = model(source, lengths, inputs, real)
        loss = nn.functional.cross_entropy(logits, target[real])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        loss.item()
        num_tokens += len(logits)
        positions += target.numel()
        if step > arguments.warmup_steps and time.perf_counter() - started > arguments.seconds:
            break
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "tokens_per_second": num_tokens / seconds,
                "padding": 1 - num_tokens / positions,
                "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "loss": loss.item(),
            }
        )
    )


if __name__ == "__main__":
    main()
