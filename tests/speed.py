"""How slow this machine is right now, so that a limit in seconds means the same on all of them."""

import time

USUAL = 0.015  # processor seconds of `_loop` on the two-core machine for which the limits were chosen


def _loop() -> float:
    start, total = time.process_time(), 0
    for k in range(200_000):
        total += k * k
    return time.process_time() - start


def slowness() -> float:
    """Processor time of a fixed piece of Python here, over the usual; 1 where it is no slower. Worst of three."""
    return max(1.0, *(_loop() / USUAL for _ in range(3)))


def _times(moves) -> list[float]:
    """The processor time of each of some calls without arguments, in seconds of the usual machine."""
    before, seconds = slowness(), []
    for move in moves:
        start = time.process_time()
        move()
        seconds.append(time.process_time() - start)
    now = max(before, slowness())
    return [each / now for each in seconds]


def quickest(moves) -> float:
    """The least of them: what a call costs where nothing else happens by chance."""
    return min(_times(moves))


def slowest(moves) -> float:
    """The most of them: no call takes longer."""
    return max(_times(moves))
