"""The fast exact engine: the same numbers as the statevector, planned from the circuit's structure.

`fast_simulate` runs a bank of circuits, `explain` says how and at what cost. Behind them: `structure` (what a circuit
couples), `plan` (which way is cheapest), `matrices`, `parts`, `chain` and `contraction` (the ways). `norm_silu`, `pool`
and `read` do the same for the U-Net's norms and linear attention (`attention`): the cheapest order of exact products.
docs/engine.md tells the story.
"""

from qdm_lib.engine.attention import norm_silu as norm_silu
from qdm_lib.engine.attention import pool as pool
from qdm_lib.engine.attention import read as read
from qdm_lib.engine.explanation import Explanation as Explanation
from qdm_lib.engine.explanation import explain as explain
from qdm_lib.engine.simulate import fast_simulate as fast_simulate
