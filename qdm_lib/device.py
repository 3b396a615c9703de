"""The device to compute on: checked before work starts, in one place for the whole library."""

from __future__ import annotations

import torch


def check_device(device: str | torch.device) -> torch.device:
    """The device by its name, such as "cpu" or "cuda:1"; ValueError of one line if torch cannot use it here."""
    try:
        picked = torch.device(device)
        torch.empty(1, device=picked)
    except (RuntimeError, AssertionError, TypeError) as error:  # an unknown name, or a device that is not there
        reason = str(error).splitlines()[0]
        raise ValueError(f"torch cannot use the device {device!r} here ({reason}).") from None
    return picked


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; the GPU if there is one, else the CPU, for None or "auto". ValueError as `check_device`."""
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return check_device(device)
