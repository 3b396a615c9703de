"""The fast exact engine: the same numbers as the statevector, planned from the circuit's structure.

Two doors: `fast_simulate` runs a bank of circuits, `explain` says how and at what cost. Behind them: `structure` (what
a circuit couples), `plan` (which way is cheapest), `matrices`, `parts`, `chain` and `contraction` (the ways), and
`attention` (linear attention by the same idea: the cheapest order of exact products). docs/engine.md tells the story.
"""

from qdm_lib.engine.explanation import Explanation as Explanation
from qdm_lib.engine.explanation import explain as explain
from qdm_lib.engine.simulate import fast_simulate as fast_simulate
