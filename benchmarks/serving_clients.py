"""The clients of `benchmarks/serving.py`, for locust, which starts many of them.

Each sends its next request when it has its answer. One request in eight is bad, where the plan says
so: an unknown option, a wrong value, an unknown model, a text that is too long, no list, no JSON. A
good answer must be the expected one, a bad request must get a status of 400 or 404 and a reason;
anything else is a failure.
"""

import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, task

PLAN = json.loads(Path(os.environ["SERVING_PLAN"]).read_text(encoding="utf-8"))
EXPECTED = dict(PLAN["expected"])
LINES = list(EXPECTED)
BAD_SHARE = PLAN["bad_share"]
LINES_PER_REQUEST = PLAN["lines_per_request"]


class Client(FastHttpUser):
    """One client."""

    wait_time = constant(0)
    numbers = itertools.count()

    @task
    def ask(self) -> None:
        """Sends a request, good or bad, and looks at the answer."""
        if random.random() < BAD_SHARE:  # noqa: S311 - no secret
            self.ask_badly()
            return
        texts = random.choices(LINES, k=LINES_PER_REQUEST)  # noqa: S311
        body = {"texts": texts, **PLAN["options"]}
        with self.client.post("/generate", json=body, name="good", catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code} {response.text}")
                return
            found = [line[0]["text"] for line in response.json()["hypotheses"]]
            if found != [EXPECTED[text] for text in texts]:
                response.failure(f"{texts}: {found}")

    def ask_badly(self) -> None:
        """Sends one of several bad requests."""
        line = random.choice(LINES)  # noqa: S311
        bodies: list[Any] = [
            {"texts": [line], "beam_sise": 5},
            {"texts": [line], "beam_size": 0},
            {"texts": [line], "model": "none of ours"},
            {"texts": [line, "x " * 5001]},
            {"texts": [line, "x " * 2000]},
            {"texts": line},
        ]
        number = next(self.numbers) % (len(bodies) + 1)
        data = b"{" if number == len(bodies) else json.dumps(bodies[number]).encode()
        with self.client.post("/generate", data=data, name="bad", catch_response=True) as response:
            if response.status_code in (400, 404) and response.json().get("error"):
                response.success()
            else:
                response.failure(f"{data[:80]!r}: {response.status_code} {response.text}")
