"""Work in the background of a widget, which a button stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import torch


class JobError(Exception):
    """What a job says of itself in words for people, to be shown without the exception's name."""


class Job(threading.Thread):
    """Runs a generator until it ends or is stopped; hands each item on, and at the end what went wrong ("" if nothing).

    on_item(job, item), on_end(job, error): called from the thread.
    """

    def __init__(self, items: Iterator, on_item: Callable, on_end: Callable) -> None:
        super().__init__(daemon=True)
        self.items, self.on_item, self.on_end, self.stopped = items, on_item, on_end, threading.Event()
        self.threads = torch.get_num_threads()  # a new thread would start with torch's own default

    def run(self) -> None:
        error = ""
        torch.set_num_threads(self.threads)
        try:
            for item in self.items:
                if self.stopped.is_set():
                    break
                self.on_item(self, item)
        except JobError as problem:
            error = str(problem)
        except Exception as problem:  # shown in the widget: a thread has nowhere else to say it
            error = f"{type(problem).__name__}: {problem}"
        self.on_end(self, error)
