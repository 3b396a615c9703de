"""Figures that move without a kernel: one piece of HTML each, stored in the notebook's output and on the website."""

from qdm_course.moving.figures import MovingFigure as MovingFigure
from qdm_course.moving.figures import circuit_data as circuit_data
from qdm_course.moving.figures import moving_qubit as moving_qubit
from qdm_course.moving.figures import moving_shift as moving_shift
from qdm_course.moving.figures import shift_circuits as shift_circuits
