"""What the log of a training says between validations: a forecast, and lines where there is no bar.

Takes numbers and a clock, and knows nothing of TensorFlow or of what is trained.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger(__name__)

# The first step is left out of the speed: it traces the graph and fills caches.
_STEPS_TO_FORECAST = 20
_SECONDS_BETWEEN_LINES = 30.0


class Limits(NamedTuple):
    """What ends a training at the latest; None is no limit."""

    epochs: int | None
    steps: int | None
    minutes: float | None


class Place(NamedTuple):
    """How far a training is."""

    step: int
    """Steps done."""
    epoch: float
    """Epochs done, with the part of the present one."""
    seconds: float
    """Time trained, over all resumptions."""


class ProgressLog:
    """Logs a forecast after twenty steps, and without a progress bar a line every 30 seconds.

    Args:
        limits: Of the training.
        has_bar: Whether a progress bar shows the same, so that no lines are needed.
        clock: Returns seconds, as `time.monotonic`.
    """

    def __init__(
        self, limits: Limits, *, has_bar: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._has_bar = has_bar
        self._clock = clock
        self._num_steps = 0
        self._measured_since = self._logged_at = clock()

    def step_is_done(
        self, place: Place, *, steps_per_epoch: int, loss: float | None, tokens_per_second: float
    ) -> None:
        """Counts a step, and logs what is due.

        Args:
            place: After the step.
            steps_per_epoch: Of the present epoch.
            loss: Mean training loss since the last validation, in nats; None right after one, which
                has its own line.
            tokens_per_second: Since the last validation.
        """
        now = self._clock()
        self._num_steps += 1
        if self._num_steps == 1:
            self._measured_since = now
        if self._num_steps == _STEPS_TO_FORECAST:
            seconds_per_step = (now - self._measured_since) / (self._num_steps - 1)
            logger.info("%s", forecast(self._limits, place, steps_per_epoch, seconds_per_step))
        if (
            not self._has_bar
            and loss is not None
            and now - self._logged_at >= _SECONDS_BETWEEN_LINES
        ):
            self._logged_at = now
            seconds_per_step = place.seconds / max(place.step, 1)
            _, left = _nearest(self._limits, place, steps_per_epoch, seconds_per_step)
            logger.info(
                "step %d (epoch %.1f): loss %.3f, %.0f tokens/s, at most %s left",
                *(place.step, place.epoch, loss, tokens_per_second, _duration(left)),
            )


def forecast(limits: Limits, place: Place, steps_per_epoch: int, seconds_per_step: float) -> str:
    """Returns a line such as `30 epochs: about 80 minutes (0.5 steps/s); 900 MB of memory so far.`.

    The time is that of the limit that will be reached first, without what validations take.

    Args:
        limits: Of the training; one of them is set.
        place: How far it is.
        steps_per_epoch: Of the present epoch.
        seconds_per_step: The speed, measured without the first step.
    """
    name, left = _nearest(limits, place, steps_per_epoch, seconds_per_step)
    if limits.minutes is not None and name == _minutes(limits.minutes):
        steps = place.step + left / max(seconds_per_step, 1e-9)
        epochs = place.epoch + (steps - place.step) / steps_per_epoch
        amount = f"about {_rounded(steps)} steps, {_rounded(epochs)} epochs"
    else:
        amount = f"about {_duration(place.seconds + left)}"
    memory = peak_memory()
    used = "" if memory is None else f"; {_size(memory)} of memory so far"
    speed = f"{1 / max(seconds_per_step, 1e-9):.2g} steps/s"
    return f"{name}: {amount} ({speed}){used}. It ends earlier if validation stops improving."


def peak_memory() -> int | None:
    """Returns the most memory, in bytes, that this process had; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _nearest(
    limits: Limits, place: Place, steps_per_epoch: int, seconds_per_step: float
) -> tuple[str, float]:
    """Returns the limit that will be reached first, and the seconds until then."""
    times = {}
    if limits.epochs is not None:
        steps = (limits.epochs - place.epoch) * steps_per_epoch
        times[f"{limits.epochs} epochs"] = steps * seconds_per_step
    if limits.steps is not None:
        times[f"{limits.steps:,} steps"] = (limits.steps - place.step) * seconds_per_step
    if limits.minutes is not None:
        times[_minutes(limits.minutes)] = 60 * limits.minutes - place.seconds
    name = min(times, key=lambda limit: times[limit])
    return name, max(times[name], 0.0)


def _minutes(number: float) -> str:
    return f"{number:g} minutes"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{_rounded(seconds)} seconds"
    if seconds < 120 * 60:
        return f"{_rounded(seconds / 60)} minutes"
    return f"{_rounded(seconds / 3600)} hours"


def _rounded(number: float) -> str:
    """Two significant digits: an estimate says no more."""
    return f"{float(f'{number:.2g}'):,g}"


def _size(number: float) -> str:
    return f"{_rounded(number / 1e6)} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"
