"""The random generator against published vectors and a plain version with Python's integers."""

import numpy as np
import tensorflow as tf

from seq2seq_kit.decoding.random import line_key, threefry, uniform

WORD = 2**32


def plain_threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32-20 as the paper's table 2 and section 3.3 give it, word by word."""
    schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    first, second = ((c + k) % WORD for c, k in zip(counter, key, strict=True))
    for turn in range(20):
        rotation = [13, 15, 26, 6, 17, 29, 16, 24][turn % 8]
        first = (first + second) % WORD
        second = (second << rotation | second >> (32 - rotation)) % WORD ^ first
        if turn % 4 == 3:
            block = turn // 4 + 1
            first = (first + schedule[block % 3]) % WORD
            second = (second + schedule[(block + 1) % 3] + block) % WORD
    return first, second


def test_the_published_vectors_come_out() -> None:
    # From the file kat_vectors of Random123.
    vectors = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((WORD - 1, WORD - 1), (WORD - 1, WORD - 1), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]
    keys, counters, expected = (np.array(part, np.int64) for part in zip(*vectors, strict=True))
    assert threefry(tf.constant(keys), tf.constant(counters)).numpy().tolist() == expected.tolist()


def test_random_words_agree_with_plain_integers() -> None:
    words = np.random.default_rng(0).integers(0, WORD, (50, 4))
    found = threefry(tf.constant(words[:, :2]), tf.constant(words[:, 2:])).numpy()
    expected = [plain_threefry((a, b), (c, d)) for a, b, c, d in words.tolist()]
    assert list(map(tuple, found.tolist())) == expected


def test_numbers_are_below_one_and_reach_both_ends() -> None:
    numbers = uniform(tf.constant([0, 255, 256, WORD - 1], tf.int64)).numpy()
    assert numbers.tolist() == [0.0, 0.0, 2**-24, 1 - 2**-24]


def test_lines_and_seeds_have_different_keys() -> None:
    hashes = tf.constant([0, 1, 2**32, 2**62 - 1], tf.int64)
    keys = [tuple(key) for seed in (0, 1, WORD - 1) for key in line_key(hashes, seed).numpy()]
    assert len(set(keys)) == 12
