"""At which row counts do the rows of a CPU product come out bit for bit alike?

    python benchmarks/row_counts.py

Prints, for the shapes of products in a decoding step, the row counts whose first rows differ from
those of 64 rows. What `seq2seq_kit/decoding/groups.py` relies on: with a plain weight there are
none from 2 on. A transposed one, as tied embeddings are, needs 16: a search turns them round first.
"""

import numpy as np
import tensorflow as tf

SHAPES = [(256, 1024), (512, 2048), (768, 2048), (1024, 256), (256, 8000), (512, 8000), (128, 6000)]
ROW_COUNTS = [1, 2, 4, 5, 8, 10, 16, 20, 32, 48, 64, 80, 96, 128, 160, 256, 320]


def differing_counts(depth: int, width: int, *, transposed: bool) -> list[int]:
    """Returns the row counts at which a product with a weight of this shape has other bits."""
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(width, depth) if transposed else (depth, width)).astype("float32")
    rows = draw.normal(size=(max(ROW_COUNTS), depth)).astype("float32")
    product = tf.function(lambda x: tf.matmul(x, tf.constant(weight), transpose_b=transposed))
    reference = product(tf.constant(rows[:64])).numpy()
    return [
        count
        for count in ROW_COUNTS
        if (product(tf.constant(rows[:count])).numpy()[:64] != reference[:count]).any()
    ]


def main() -> None:
    """Prints a line for each shape."""
    for depth, width in SHAPES:
        for transposed in (False, True):
            counts = differing_counts(depth, width, transposed=transposed)
            layout = "transposed" if transposed else "plain"
            print(f"rows x {depth} x {width}, {layout} weight: differ at {counts or 'none'}")


if __name__ == "__main__":
    main()
