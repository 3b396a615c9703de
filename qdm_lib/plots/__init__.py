"""Every drawing function of the course.

Each takes `ax=None`, draws into it (or into a new figure) and returns the Axes. None calls `show()`: a notebook shows
the figure with `show_described`, a script saves it with `save_figure`. What a figure shows stands in its function's
docstring after "What you see:".
"""

from qdm_lib.plots.circuits import block_boxes as block_boxes
from qdm_lib.plots.circuits import block_colours as block_colours
from qdm_lib.plots.circuits import block_name as block_name
from qdm_lib.plots.circuits import circuit_text as circuit_text
from qdm_lib.plots.circuits import columns_of as columns_of
from qdm_lib.plots.circuits import draw_circuit as draw_circuit
from qdm_lib.plots.images import film_strip as film_strip
from qdm_lib.plots.images import image_grid as image_grid
from qdm_lib.plots.images import loss_curve as loss_curve
from qdm_lib.plots.images import score_table as score_table
from qdm_lib.plots.paper_figures import describe_resnet_block as describe_resnet_block
from qdm_lib.plots.paper_figures import draw_chain as draw_chain
from qdm_lib.plots.paper_figures import draw_hand_over as draw_hand_over
from qdm_lib.plots.paper_figures import draw_loop as draw_loop
from qdm_lib.plots.paper_figures import draw_resnet_block as draw_resnet_block
from qdm_lib.plots.style import OKABE_ITO as OKABE_ITO
from qdm_lib.plots.style import described_picture as described_picture
from qdm_lib.plots.style import new_axes as new_axes
from qdm_lib.plots.style import save_figure as save_figure
from qdm_lib.plots.style import show_described as show_described
from qdm_lib.plots.style import tint as tint
from qdm_lib.plots.unets import CIRCUIT_COLOURS as CIRCUIT_COLOURS
from qdm_lib.plots.unets import KIND_COLOURS as KIND_COLOURS
from qdm_lib.plots.unets import describe_unet as describe_unet
from qdm_lib.plots.unets import draw_unet as draw_unet
from qdm_lib.plots.unets import unet_blocks as unet_blocks
from qdm_lib.plots.wires import CHANNEL_COLOURS as CHANNEL_COLOURS
from qdm_lib.plots.wires import draw_interaction_graph as draw_interaction_graph
from qdm_lib.plots.wires import draw_pennylane as draw_pennylane
from qdm_lib.plots.wires import draw_wire_map as draw_wire_map
from qdm_lib.plots.wires import fill_nodes as fill_nodes
from qdm_lib.plots.wires import liveness_map as liveness_map
from qdm_lib.plots.wires import node_positions as node_positions
from qdm_lib.plots.wires import sketch_circuit as sketch_circuit
