"""A hand-written PyTorch LSTM language model, for `benchmarks/language_model_speed.py`.

    python torch_language_model.py IDS.npz --seconds 40

Trains by truncated backpropagation through time, as PyTorch's own example does, with the ids and
sizes in the file, and prints what was measured as JSON.
"""

import argparse
import json
import resource
import time

import numpy as np
import torch
from torch import nn


class LanguageModel(nn.Module):
    """LSTM layers, a layer of the size of an embedding, and tied embeddings."""

    def __init__(
        self, vocab_size: int, embedding_dim: int, units: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, units, layers, dropout=dropout if layers > 1 else 0.0)
        self.combine = nn.Linear(units, embedding_dim)
        self.output = nn.Linear(embedding_dim, vocab_size)
        self.output.weight = self.embedding.weight
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self, ids: torch.Tensor, states: tuple[torch.Tensor, ...] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Returns the logits of `(time, rows)` tokens, and the states after them."""
        outputs, states = self.lstm(self.dropout(self.embedding(ids)), states)
        return self.output(self.dropout(torch.tanh(self.combine(outputs)))), states


def main() -> None:
    """Trains for some seconds and prints the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--warmup-steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    data = np.load(arguments.ids)
    rows, window = int(data["rows"]), int(data["window"])
    ids = torch.tensor(data["ids"][: len(data["ids"]) // rows * rows]).view(rows, -1).t()
    sizes = [int(data[name]) for name in ("vocab_size", "embedding_dim", "units", "layers")]
    model = LanguageModel(*sizes, dropout=float(data["dropout"]))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    states, start, num_tokens, step = None, 0, 0, 0
    begun = time.perf_counter()
    while step <= arguments.warmup_steps or time.perf_counter() - begun < arguments.seconds:
        if step == arguments.warmup_steps:
            num_tokens, begun = 0, time.perf_counter()
        if start + window >= len(ids):
            states, start = None, 0
        inputs, targets = ids[start : start + window], ids[start + 1 : start + window + 1]
        if states is not None:
            states = tuple(part.detach() for part in states)
        logits, states = model(inputs, states)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        start, num_tokens, step = start + window, num_tokens + targets.numel(), step + 1
    print(
        json.dumps(
            {
                "tokens_per_second": num_tokens / (time.perf_counter() - begun),
                "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main()
