"""The largest value of every number that a user can give, each with its reason.

Config fields, options and Python arguments take their upper bounds from here. A value within its
bound can still be too much for a machine: `model/memory.py` looks at that. Imports nothing, since
the command line reads it at start.
"""

MAX_TOKENS = 1_000_000
"""Tokens of a text, an output or a window. A long novel has fewer, and positions in a batch of
such rows can still be counted in TensorFlow's int32."""

MAX_VOCAB_SIZE = 1_000_000
"""Pieces of a vocabulary. The largest in use have a quarter of that."""

MAX_WIDTH = 2**14
"""Units of a layer and size of an embedding. An LSTM of this width has a kernel of 2**30 weights;
with twice the width, int32 could not count them."""

MAX_LAYERS = 100
"""Layers of an encoder or decoder. Each is traced on its own: thousands take hours before the first
step. More than eight have not been seen to help an LSTM."""

MAX_BEAM_SIZE = 10_000
"""Hypotheses kept or returned. `2 * beam_size` candidates a step are sorted, and beyond some dozens
outputs get worse (Koehn and Knowles, 2017, https://aclanthology.org/W17-3204/)."""

MAX_BATCH_SIZE = 10_000_000
"""Rows, or tokens, of a batch. `generate` reads 16 batches at once: that is counted in int32."""

MAX_THREADS = 10_000
"""Threads that search. No machine has as many cores, and no more threads than cores are used."""

MAX_NGRAM = 100
"""Tokens of an n-gram that is not repeated: the graph has an operation for each of them."""

MAX_COUNT = 1_000_000_000
"""Steps, epochs, validations, held-out or shown lines: everything that is counted one by one, in
int32. At a thousand a second it takes eleven days."""

MAX_MINUTES = 10_000_000.0
"""Minutes of training: nineteen years. In seconds it keeps its precision in float32, in which
several workers agree on the time."""

SEEDS = 2**32
"""A seed is less: `keras.utils.set_random_seed` hands it to NumPy, which takes 32 bits."""

MAX_WEIGHT = 10_000.0
"""Times that an epoch shows a corpus: its plan holds each row this many times."""

MAX_COLUMN = 10_000
"""The number of a TSV column: a blank line counts as a row with this many empty cells."""

MAX_LENGTH_PENALTY = 5.0
"""The exponent of `(5 + length) / 6`. For an output of `MAX_TOKENS` that is 1e26, which float32
holds; from 8 on it would be infinite and all scores equal. Usual values are 0 to 2."""

MAX_INTERVENTION = 10_000.0
"""What a part of a layer is held at or scaled by when a model is looked into: far beyond any cell
that training leads to, and its products stay finite in float32."""

MAX_TEMPERATURE = 100.0
"""Divides logits in sampling. From about 10 on, all tokens are nearly equally likely."""

MAX_REPETITION_PENALTY = 100.0
"""Multiplies negative logits: they stay far above the logit of a forbidden token.
Usual values are 1 to 2."""

MAX_LENGTH_RATIO = 1000.0
"""Times that one side of a pair may be as long as the other. Usual values are 1.5 to 3."""

MAX_NATS = 1_000_000.0
"""Of a log-probability, as a distance from 0: a long text of unlikely tokens has fewer."""

MAX_SHARPNESS = 1000.0
"""Multiplies inner products of outputs, which are at most their size: usual values are below 1."""

MAX_LEARNING_RATE = 1000.0
"""Adam changes a weight by about this much in a step: far more than any training that works, and
small enough that the weights stay within float32."""

MAX_WEIGHT_DECAY = 10.0
"""Times the learning rate, the share of itself that a weight loses in a step. With a usual learning
rate of 0.001, a value of 10 already halves the weights in 70 steps."""

MAX_REGULARIZATION = 1000.0
"""Factor of a penalty that is added to the loss. From 100 on, it is all that training lowers."""

MAX_INIT_SCALE = 1000.0
"""Weights start within plus and minus this: gates saturate from about 10 on."""

MAX_NORM = 1e30
"""The norm to which gradients are clipped, where a large number means never. float32 holds it."""

MAX_CONFIG_BYTES = 1_000_000
"""Size of a config file: many times the longest in use. YAML is read at some 100 kB a second."""

MAX_NESTING = 30
"""How deep the values of a config are nested. Its keys reach four deep; a thousand would end at
Python's own limit."""

MAX_VALUES = 50_000
"""Values in a config, where an alias counts as all values that it refers to: eight lines of aliases
of aliases can refer to a billion values."""

MAX_DIGITS = 400
"""Characters of a number in a config. The longest float has 309 digits; the time to read a number
grows with the square of them."""

MAX_RECORD_BYTES = 64 * 2**20
"""Size of a file of a run, an export or the cache that is read whole: its config, digests, history,
results. A hundred thousand validations take half of it."""

MAX_ARRAY_BYTES = 2**30
"""Size of a file that is read whole to verify it: a shortlist of a million tokens takes 80 MB."""

MAX_MODEL_BYTES = 256 * 2**20
"""Size of a SentencePiece model: a vocabulary of `MAX_VOCAB_SIZE` has less than half of it."""

MAX_GRAPH_BYTES = 2**31 - 1
"""Size of the graph of an export: protobuf reads no more."""

MAX_LINE_BYTES = 256 * 2**20
"""Length of a line of text. Otherwise a file without line ends, such as a device or a gzip bomb,
would be read into memory whole."""

MIN_SPEAKING_SPEED = 80
MAX_SPEAKING_SPEED = 450
"""Words a minute: what espeak-ng can do. People speak 120 to 200."""

MAX_PITCH = 99
"""The highest pitch of espeak-ng, in its own unit, of which 50 is the usual pitch of a voice."""
