"""A training run in a folder: start it, stop it, go on, draw from it, score it.

`train_run` trains what a `RunConfig` describes and survives a kill at any moment; `generate` draws images from a model;
`score_to_json` scores them. Behind them: `run` (the folder), `sampling` (images from weights), `distributed` (several
processes that share each batch), `streams` (which random numbers a seed stands for).
"""

from qdm_lib.runs.distributed import Processes as Processes
from qdm_lib.runs.distributed import launched_processes as launched_processes
from qdm_lib.runs.run import FolderInUseError as FolderInUseError
from qdm_lib.runs.run import Interrupted as Interrupted
from qdm_lib.runs.run import RunConfig as RunConfig
from qdm_lib.runs.run import RunResult as RunResult
from qdm_lib.runs.run import check_writable as check_writable
from qdm_lib.runs.run import read_losses as read_losses
from qdm_lib.runs.run import run_info as run_info
from qdm_lib.runs.run import saved_config as saved_config
from qdm_lib.runs.run import sole_user as sole_user
from qdm_lib.runs.run import train_run as train_run
from qdm_lib.runs.sampling import Film as Film
from qdm_lib.runs.sampling import check_sampler as check_sampler
from qdm_lib.runs.sampling import generate as generate
from qdm_lib.runs.sampling import score_to_json as score_to_json
from qdm_lib.runs.streams import DRAW_STREAM as DRAW_STREAM
from qdm_lib.runs.streams import NOISE_STREAM as NOISE_STREAM
from qdm_lib.runs.streams import NUDGE_STREAM as NUDGE_STREAM
from qdm_lib.runs.streams import VERTEX_STREAM as VERTEX_STREAM
