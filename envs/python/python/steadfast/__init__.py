"""steadfast: trust-region reinforcement learning in Rust, from Python.

Importing it registers every environment with Gymnasium as ``steadfast/ID``:

>>> import gymnasium, steadfast
>>> env = gymnasium.make("steadfast/Hopper-v5")
>>> envs = gymnasium.make_vec("steadfast/Pendulum-v1", num_envs=64)

``train`` trains an agent on one of them, on one of Gymnasium's, or on a class of yours; ``load`` gives the trained
policy, ``read_results`` the curves.
"""

import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any, Literal as _Literal

from ._steadfast import SteadfastError, __version__, forked as _forked
from .envs import Env, VectorEnv, env_ids, register
from .runs import Policy, Run, load, read_results, train

if _TYPE_CHECKING:
    from .parallel import ParallelEnv as _ParallelEnv

__all__ = [
    "Env",
    "Policy",
    "Run",
    "SteadfastError",
    "VectorEnv",
    "__version__",
    "env_ids",
    "load",
    "parallel_env",
    "read_results",
    "register",
    "train",
]

if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_forked)
register()


def parallel_env(
    env_id: str, *, render_mode: str | None = None, max_steps: "int | None | _Literal['registered']" = "registered", **options: _Any
) -> "_ParallelEnv":
    """The environment as a PettingZoo ``ParallelEnv``; see ``steadfast.parallel.ParallelEnv``."""
    from .parallel import ParallelEnv

    return ParallelEnv(env_id, render_mode=render_mode, max_steps=max_steps, **options)
