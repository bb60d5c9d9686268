"""What is shown while a model trains: a progress bar, or lines in the log, and a forecast.

Takes counters and a clock, and knows nothing of what is trained.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tqdm import tqdm

from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.stopping import Limits

logger = logging.getLogger(__name__)

# The first step is left out of the speed: it traces the graph and fills caches.
_STEPS_TO_FORECAST = 20
_SECONDS_BETWEEN_LINES = 30.0


class Progress(TrainingPart):
    """Shows how far training is: a bar on a terminal and in a notebook, lines in the log elsewhere.

    Args:
        limits: Where training ends at the latest.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._log = ProgressLog(limits, has_bar=_has_bar())
        self._bar: tqdm | None = None
        self._steps_per_epoch = 1
        self._restart_speed(0.0)

    def tokens_per_second(self, state: TrainingState) -> float:
        """Returns the speed of training since the last validation, in target tokens."""
        since, num_tokens = self._speed_since
        return (state.num_tokens - num_tokens) / max(time.monotonic() - since, 1e-9)

    def _restart_speed(self, num_tokens: float) -> None:
        self._speed_since = (time.monotonic(), num_tokens)

    def begin(self, state: TrainingState, num_steps: int) -> None:
        self._restart_speed(state.num_tokens)

    def begin_epoch(self, state: TrainingState, epoch: int, num_steps: int) -> None:
        self.close()
        self._steps_per_epoch = num_steps
        num_epochs = f"/{self._limits.epochs}" if self._limits.epochs else ""
        self._bar = tqdm(
            total=num_steps,
            initial=state.batch,
            desc=f"epoch {epoch + 1}{num_epochs}",
            unit="batch",
            disable=not _has_bar(),
            leave=False,
        )

    def after_step(self, state: TrainingState) -> None:
        place = Place(state.step, state.epoch + state.batch / self._steps_per_epoch, state.seconds)
        tokens_per_second = self.tokens_per_second(state)
        self._log.step_is_done(
            place,
            steps_per_epoch=self._steps_per_epoch,
            loss=state.loss_sum / state.num_tokens if state.num_tokens else None,
            tokens_per_second=tokens_per_second,
        )
        if self._bar is None or self._bar.disable:
            return
        self._bar.update()
        if state.num_tokens:
            seconds_per_step = place.seconds / max(place.step, 1)
            _, left = _nearest(self._limits, place, self._steps_per_epoch, seconds_per_step)
            self._bar.set_postfix_str(
                f"loss {state.epoch_loss:.3f}, {tokens_per_second:.0f} tokens/s, "
                f"at most {tqdm.format_interval(left)} left"
            )

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        self._restart_speed(0.0)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _has_bar() -> bool:
    """Whether a progress bar can be shown: on a terminal and in a notebook."""
    return (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules


class Place(NamedTuple):
    """How far a training is."""

    step: int
    """Steps completed."""
    epoch: float
    """Epochs completed, with the fraction of the current one."""
    seconds: float
    """Training time, over all resumptions."""


class ProgressLog:
    """Logs a forecast after twenty steps, and without a progress bar a line every 30 seconds.

    Args:
        limits: Where training ends at the latest.
        has_bar: Whether a progress bar shows the same, so that no lines are needed.
        clock: Returns seconds, as `time.monotonic` does.
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
            place: How far training is after the step.
            steps_per_epoch: Steps of the current epoch.
            loss: Mean training loss since the last validation, in nats; None right after a
                validation, which has a line in the log itself.
            tokens_per_second: Target tokens per second since the last validation.
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
                *(place.step, place.epoch, loss, tokens_per_second, describe_duration(left)),
            )


def forecast(limits: Limits, place: Place, steps_per_epoch: int, seconds_per_step: float) -> str:
    """Returns a line such as `30 epochs: about 80 minutes (0.5 steps/s); 900 MB of memory so far.`.

    It names the limit that will be reached first; the time leaves out validations.

    Args:
        limits: Where training ends at the latest; at least one limit is set.
        place: How far training is.
        steps_per_epoch: Steps of the current epoch.
        seconds_per_step: Seconds per step, measured without the first step.
    """
    name, left = _nearest(limits, place, steps_per_epoch, seconds_per_step)
    if limits.minutes is not None and name == _count(limits.minutes, "minute"):
        steps = place.step + left / max(seconds_per_step, 1e-9)
        epochs = place.epoch + (steps - place.step) / steps_per_epoch
        amount = f"about {_rounded(steps)} steps, {_rounded(epochs)} epochs"
    else:
        amount = f"about {describe_duration(place.seconds + left)}"
    memory = peak_memory()
    used = "" if memory is None else f"; {_size(memory)} of memory so far"
    speed = f"{1 / max(seconds_per_step, 1e-9):.2g} steps/s"
    return f"{name}: {amount} ({speed}){used}. It ends earlier if validation stops improving."


def peak_memory() -> int | None:
    """Returns the peak memory of this process in bytes; None where it is unknown."""
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
        times[_count(limits.epochs, "epoch")] = steps * seconds_per_step
    if limits.steps is not None:
        times[_count(limits.steps, "step")] = (limits.steps - place.step) * seconds_per_step
    if limits.minutes is not None:
        times[_count(limits.minutes, "minute")] = 60 * limits.minutes - place.seconds
    name = min(times, key=lambda limit: times[limit])
    return name, max(times[name], 0.0)


def _count(number: float, unit: str) -> str:
    """Returns a number with its unit, such as `1 epoch` or `2.5 minutes`."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {unit}" if number == 1 else f"{shown} {unit}s"


def describe_duration(seconds: float) -> str:
    """Returns a time in a unit that suits it, with two digits."""
    if seconds < 100:
        return f"{_rounded(seconds)} seconds"
    if seconds < 120 * 60:
        return f"{_rounded(seconds / 60)} minutes"
    return f"{_rounded(seconds / 3600)} hours"


def _rounded(number: float) -> str:
    """Rounds to two significant digits: an estimate is no more precise."""
    return f"{float(f'{number:.2g}'):,g}"


def _size(number: float) -> str:
    return f"{_rounded(number / 1e6)} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"
