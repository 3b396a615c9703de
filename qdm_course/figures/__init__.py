"""Figures that only the course shows; those that the library's commands share are in `qdm_lib.plots`.

As there, each takes `ax=None`, draws into it or into a new figure, returns the Axes and never calls `show()`. What a
figure shows stands in its function's docstring after "What you see:".
"""

from qdm_course.figures.paper import draw_chain as draw_chain
from qdm_course.figures.paper import draw_hand_over as draw_hand_over
from qdm_course.figures.paper import draw_loop as draw_loop
from qdm_course.figures.resnet_block import describe_resnet_block as describe_resnet_block
from qdm_course.figures.resnet_block import draw_resnet_block as draw_resnet_block
from qdm_course.figures.wires import CHANNEL_COLOURS as CHANNEL_COLOURS
from qdm_course.figures.wires import draw_interaction_graph as draw_interaction_graph
from qdm_course.figures.wires import draw_pennylane as draw_pennylane
from qdm_course.figures.wires import draw_wire_map as draw_wire_map
from qdm_course.figures.wires import fill_nodes as fill_nodes
from qdm_course.figures.wires import liveness_map as liveness_map
from qdm_course.figures.wires import node_positions as node_positions
from qdm_course.figures.wires import sketch_circuit as sketch_circuit
