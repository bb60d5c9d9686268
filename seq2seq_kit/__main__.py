"""`python -m seq2seq_kit`, where the command `s2s` is not on the path."""

import sys

from seq2seq_kit.cli import main

if __name__ == "__main__":
    sys.exit(main())
