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


def quickest(moves) -> float:
    """The least processor time among calls without arguments, in seconds of the usual machine."""
    before, seconds = slowness(), []
    for move in moves:
        start = time.process_time()
        move()
        seconds.append(time.process_time() - start)
    return min(seconds) / max(before, slowness())
