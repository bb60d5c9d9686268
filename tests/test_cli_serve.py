"""`s2s serve`: its errors, and that it serves until a signal."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from serving import Client

from seq2seq_kit.cli import main
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.server import listen


class Export:
    """Stands for an export that writes each input backwards."""

    can_be_rebuilt = False

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def hypotheses(self, texts: list[str], **_options: int) -> list[list[Hypothesis]]:
        return [[Hypothesis(text[::-1], (), -1.0, -1.0)] for text in texts]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for processes")
def test_it_prints_its_address_and_serves_until_sigterm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    client = Client(f"127.0.0.1:{port}")
    answers: list[Any] = []
    # A server that does not start must not take the whole test session with it.
    default = signal.signal(signal.SIGTERM, lambda *_: None)

    def load(run: Path) -> Export:
        threading.Thread(target=ask).start()
        return Export()

    def ask() -> None:  # From loading on, clients can connect; they wait.
        try:
            answers.append(client.post("/generate", {"texts": ["ab"]}).json)
            answers.append(client.get("/health").status)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("seq2seq_kit.cli.serve.load_run_or_export", load)
    monkeypatch.delenv("S2S_TOKEN", raising=False)
    try:
        assert main(["serve", "runs/mine", "--port", str(port)]) == 0
    finally:
        signal.signal(signal.SIGTERM, default)
    assert answers[0]["model"] == "mine"
    assert answers[0]["hypotheses"][0][0]["text"] == "ba"
    assert answers[1] == 200
    assert f"Serving mine on http://127.0.0.1:{port}" in capsys.readouterr().out


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["serve", "run"]) == 2
    assert "needs starlette. Install it with `pip install 'seq2seq_kit[serve]'`" in (
        capsys.readouterr().err
    )


def test_a_port_in_use_is_found_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seq2seq_kit.cli.serve.load_run_or_export", None)
    with listen("127.0.0.1", 0) as listener:
        assert main(["serve", "run", "--port", str(listener.getsockname()[1])]) == 2
    assert "Address already in use. Choose another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-run", "--port", "0"], "no-such-run"),
        (["a/run", "b/run"], "must have a different name"),
        (["run", "--token", ""], "--token must not be empty"),
        ([], "Missing argument"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err
