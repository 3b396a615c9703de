"""Quantum hybrid diffusion models, exact and tested: the library under the course.

After "Towards Efficient Quantum Hybrid Diffusion Models" (De Falco et al., arXiv:2402.16147). Modules are imported by
name (``from qdm_lib.unet import build_unet``), so that reading a circuit never loads a data set.
"""

from qdm_lib.machine import share_processor

__version__ = "0.2.0.dev0"

share_processor()  # in a container with half a core, torch would start a thread for every core of the host
