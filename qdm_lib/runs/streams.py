"""Where the random numbers of one seed come from: each use adds its own number, so that no two uses share a stream.

First weights, and the noise of the widgets' pictures, are drawn from the seed itself, and batches from (seed, epoch) by
a generator of another kind. The widgets' random weights have 5_000_011 (`qdm_course.widgets.films`).
"""

NOISE_STREAM = 1_000_003  # of training: time steps and noise
DRAW_STREAM = 2_000_003  # of sampling: the noise that images start from, and ddpm's on the way
VERTEX_STREAM = 3_000_017  # of a transfer: the new vertex does not begin as the source's once did
NUDGE_STREAM = 4_000_037  # of a run that is to differ from its twin by next to nothing
