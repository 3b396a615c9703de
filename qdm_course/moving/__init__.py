"""Figures that move without a kernel: one piece of HTML each, stored in the notebook's output and on the website."""

from qdm_course.moving.base import MovingFigure as MovingFigure
from qdm_course.moving.base import circuit_data as circuit_data
from qdm_course.moving.base import moving_script as moving_script
from qdm_course.moving.block import block_row as block_row
from qdm_course.moving.block import moving_block as moving_block
from qdm_course.moving.gates import moving_circuits as moving_circuits
from qdm_course.moving.gates import moving_qubit as moving_qubit
from qdm_course.moving.gates import moving_shift as moving_shift
from qdm_course.moving.gates import shift_circuits as shift_circuits
from qdm_course.moving.process import mixture_denoiser as mixture_denoiser
from qdm_course.moving.process import moving_film as moving_film
from qdm_course.moving.process import moving_reverse as moving_reverse
