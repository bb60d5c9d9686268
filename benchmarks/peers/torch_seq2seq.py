"""The common model written by hand in PyTorch 2, as a peer: the speed of training and decoding.

    python benchmarks/peers/torch_seq2seq.py IDS.npz --seconds 40
    python benchmarks/peers/torch_seq2seq.py MODEL.npz --decode --beam-size 5 --batch-size 64

IDS.npz and MODEL.npz come from `training_speed.py` and `decoding_speed.py`. Needs torch and numpy
alone. The model is that of `benchmarks/configs/common.yaml`: packed
bidirectional encoder, one call over the whole target, "general" attention, no input feeding.
Prints a line of JSON.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from decoding import measure_decoding
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

PAD, BOS, EOS = 0, 2, 3
BATCH_SIZE = 64
POOL = 50 * BATCH_SIZE  # Rows that are sorted by length together.


class Memory(NamedTuple):
    """What the decoder attends to."""

    values: torch.Tensor
    keys: torch.Tensor
    is_padding: torch.Tensor


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

    def encode(
        self, source: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[Memory, tuple[torch.Tensor, ...]]:
        """Returns what is attended to, and the decoder's first state; rows are sorted by length."""
        packed = pack_padded_sequence(self.source_embedding(source), lengths, batch_first=True)
        encoded, state = self.encoder(packed)
        values, _ = pad_packed_sequence(encoded, batch_first=True)
        memory = Memory(values, self.keys(values), (source == PAD).unsqueeze(1))
        return memory, tuple(torch.cat([part[0], part[1]], -1).unsqueeze(0) for part in state)

    def decode(
        self, inputs: torch.Tensor, memory: Memory, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Returns the inputs of the output layer, `(batch, time, units)`, and the new state."""
        queries, state = self.decoder(self.target_embedding(inputs), state)
        scores = torch.bmm(queries, memory.keys.transpose(1, 2))
        weights = scores.masked_fill(memory.is_padding, -1e9).softmax(-1)
        context = torch.bmm(weights, memory.values)
        return torch.tanh(self.combine(torch.cat([queries, context], -1))), state

    def forward(
        self, source: torch.Tensor, lengths: torch.Tensor, inputs: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """Returns the logits of the real target positions, `(tokens, vocab_size)`."""
        outputs, _ = self.decode(inputs, *self.encode(source, lengths))
        return self.output(self.dropout(outputs[real]))

    @torch.inference_mode()
    def greedy(
        self, source: torch.Tensor, lengths: torch.Tensor, max_length: int
    ) -> list[list[int]]:
        """Returns the likeliest tokens one after the other, up to EOS."""
        memory, state = self.encode(source, lengths)
        token = torch.full((len(source), 1), BOS)
        done = torch.zeros(len(source), dtype=torch.bool)
        steps = []
        for _ in range(max_length):
            outputs, state = self.decode(token, memory, state)
            token = self.suppress(self.output(outputs[:, 0])).argmax(-1, keepdim=True)
            steps.append(token)
            done |= token[:, 0] == EOS
            if done.all():
                break
        return [until_eos(row) for row in torch.cat(steps, 1).tolist()]

    @torch.inference_mode()
    def beam(
        self,
        source: torch.Tensor,
        lengths: torch.Tensor,
        max_length: int,
        beam_size: int,
        length_penalty: float,
    ) -> list[list[int]]:
        """Returns each line's best finished hypothesis; `beam_size` of them end a line."""
        memory, state = self.encode(source, lengths)
        size = len(source)
        memory = Memory(*(part.repeat_interleave(beam_size, 0) for part in memory))
        state = tuple(part.repeat_interleave(beam_size, 1) for part in state)
        token = torch.full((size * beam_size, 1), BOS)
        total = torch.full((size, beam_size), -1e9)
        total[:, 0] = 0.0
        kept = token[:, :0]
        finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(size)]
        offsets = torch.arange(size).unsqueeze(1) * beam_size
        for time_step in range(max_length):
            outputs, state = self.decode(token, memory, state)
            log_probs = self.suppress(self.output(outputs[:, 0]).log_softmax(-1))
            vocab_size = log_probs.shape[-1]
            sums = (total.unsqueeze(-1) + log_probs.view(size, beam_size, -1)).view(size, -1)
            best, chosen = sums.topk(2 * beam_size, -1)
            parents, tokens = chosen // vocab_size, chosen % vocab_size
            ended = tokens == EOS
            for row, rank in ended[:, :beam_size].nonzero().tolist():
                if len(finished[row]) < beam_size:
                    score = best[row, rank].item() / ((6 + time_step) / 6) ** length_penalty
                    prefix = kept[row * beam_size + parents[row, rank]].tolist()
                    finished[row].append((score, prefix))
            if all(len(found) >= beam_size for found in finished):
                break
            total, alive = best.masked_fill(ended, -1e9).topk(beam_size, -1)
            rows = (parents.gather(1, alive) + offsets).view(-1)
            token = tokens.gather(1, alive).view(-1, 1)
            kept = torch.cat([kept[rows], token], 1)
            state = tuple(part[:, rows] for part in state)
        alive_rows = kept.view(size, beam_size, -1)[:, 0].tolist()
        return [max(found)[1] if found else alive_rows[row] for row, found in enumerate(finished)]

    @staticmethod
    def suppress(logits: torch.Tensor) -> torch.Tensor:
        """Keeps padding, the unknown token and BOS from being generated."""
        logits[:, :EOS] = -1e9
        return logits


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


def until_eos(row: list[int]) -> list[int]:
    """Returns the ids before EOS."""
    return row[: row.index(EOS)] if EOS in row else row


def load_weights(model: Seq2Seq, data: Any) -> None:
    """Gives the model the weights of a run of this package."""
    state = {
        "source_embedding.weight": data["source_embedding"],
        "target_embedding.weight": data["target_embedding"],
        "keys.weight": data["keys"].T,
        "combine.weight": data["combine"].T,
        "output.weight": data["output"].T,
        "output.bias": data["output_bias"],
    }
    # Keras has one bias and the gates in the same order.
    for layer, ours in (
        ("encoder.{}", "forward"),
        ("encoder.{}_reverse", "backward"),
        ("decoder.{}", "decoder"),
    ):
        state[layer.format("weight_ih_l0")] = data[f"{ours}_kernel"].T
        state[layer.format("weight_hh_l0")] = data[f"{ours}_recurrent_kernel"].T
        state[layer.format("bias_ih_l0")] = data[f"{ours}_bias"]
        state[layer.format("bias_hh_l0")] = np.zeros_like(data[f"{ours}_bias"])
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})


def decode(data: Any, beam_size: int, batch_size: int, lines: int) -> None:
    """Decodes the sources and prints the speed and the outputs."""
    model = Seq2Seq(int(data["vocab_size"])).eval()
    load_weights(model, data)
    limit, penalty = int(data["max_length"]), float(data["length_penalty"])

    def search(sources: list[torch.Tensor]) -> list[list[int]]:
        source = pad_sequence(sources, batch_first=True)
        lengths = torch.tensor([len(row) for row in sources])
        if beam_size == 1:
            return model.greedy(source, lengths, limit)
        return model.beam(source, lengths, limit, beam_size, penalty)

    measure_decoding(rows(data["source_ids"], data["source_lengths"])[:lines], batch_size, search)


def main() -> None:
    """Trains for some seconds, or decodes, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--warmup-steps", type=int, default=15)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--lines", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(1)
    data = np.load(arguments.ids)
    if arguments.decode:
        decode(data, arguments.beam_size, arguments.batch_size, arguments.lines)
        return
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
