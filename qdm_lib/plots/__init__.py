"""Drawings of circuits, networks and images; `qdm_course.figures` has those that only the course shows.

Each takes `ax=None`, draws into it (or into a new figure) and returns the Axes. None calls `show()`: a notebook shows
the figure with `show_described`, a script saves it with `save_figure`. What a figure shows stands in its function's
docstring after "What you see:".
"""

from qdm_lib.plots.circuits import angle_source as angle_source
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
from qdm_lib.plots.style import OKABE_ITO as OKABE_ITO
from qdm_lib.plots.style import described_picture as described_picture
from qdm_lib.plots.style import new_axes as new_axes
from qdm_lib.plots.style import save_figure as save_figure
from qdm_lib.plots.style import show_described as show_described
from qdm_lib.plots.style import tint as tint
from qdm_lib.plots.unets import CIRCUIT_COLOURS as CIRCUIT_COLOURS
from qdm_lib.plots.unets import HATCH as HATCH
from qdm_lib.plots.unets import KIND_COLOURS as KIND_COLOURS
from qdm_lib.plots.unets import OTHER_ANSATZ as OTHER_ANSATZ
from qdm_lib.plots.unets import as_config as as_config
from qdm_lib.plots.unets import channel_colour as channel_colour
from qdm_lib.plots.unets import describe_unet as describe_unet
from qdm_lib.plots.unets import draw_unet as draw_unet
from qdm_lib.plots.unets import unet_blocks as unet_blocks
