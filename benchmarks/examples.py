"""Runs the examples whole, on this machine: they must write what `s2s generate` writes.

    for name in beam ray spark; do          # an environment for each; Spark needs Java 17, too
        python -m venv ENVS/$name && ENVS/$name/bin/pip install -r examples/generate_with_$name.txt
    done
    python benchmarks/examples.py RUN --source FILE --environments ENVS [--lines 200]
    python examples/train_in_two_processes.py CONFIG FOLDER         # prints its efficiency

Exports RUN, and compares the lines of each example's output. The exit code is 1 if one differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def s2s(*arguments: str | Path) -> None:
    """Runs the command."""
    subprocess.run([sys.executable, "-m", "seq2seq_kit", *arguments], check=True)


def outputs_of(name: str, python: Path, export: Path, source: Path, folder: Path) -> list[bytes]:
    """Returns the lines that an example writes.

    Args:
        name: What it uses: beam, ray or spark.
        python: The interpreter that has it.
        export: The exported SavedModel.
        source: The inputs.
        folder: Where it may write.
    """
    script = EXAMPLES / f"generate_with_{name}.py"
    output = folder / name / "part" if name == "beam" else folder / name
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYSPARK_PYTHON": str(python)}
    command = [str(python), str(script), str(export), str(source), str(output)]
    subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=True)
    if name == "ray":
        return output.read_bytes().splitlines(keepends=True)
    parts = sorted((folder / name).glob("part-*"))
    lines = [line for part in parts for line in part.read_bytes().splitlines(keepends=True)]
    if name == "beam":
        numbered = sorted((line.split(b"\t", 1) for line in lines), key=lambda pair: int(pair[0]))
        return [text for _, text in numbered]
    return lines


def main() -> int:
    """Prints how many lines of each example are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=200, help="of the file, at most")
    parser.add_argument("--environments", type=Path, required=True)
    arguments = parser.parse_args()
    has_failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, export = folder / "source.txt", folder / "export"
        lines = arguments.source.read_bytes().splitlines(keepends=True)[: arguments.lines]
        source.write_bytes(b"".join(lines))
        s2s("export", arguments.run, export)
        s2s("generate", arguments.run, source, "-o", folder / "expected.txt")
        expected = (folder / "expected.txt").read_bytes().splitlines(keepends=True)
        for engine in ("beam", "ray", "spark"):
            python = arguments.environments / engine / "bin" / "python"
            found = outputs_of(engine, python, export, source, folder)
            equal = sum(a == b for a, b in zip(found, expected, strict=False))
            print(f"{engine}: {equal} of {len(expected)} lines are those of s2s generate")
            has_failed |= found != expected
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
