"""Gymnasium's environments behind flat vectors: the Python half of the bridge.

It runs in the interpreter of a Rust program, in that of a user of the Python package, or as a worker process
(`python -c` of this file), which answers framed requests on its standard input.
"""

import ast
import copy
import importlib
import inspect
import json
import operator
import os
import signal
import struct
import sys
import traceback

try:
    import numpy as np
except ModuleNotFoundError:
    # Gymnasium brings it; `make` says that it is missing.
    pass


class Driver:
    """One environment: float64 actions in, float32 observations out, both flat."""

    def __init__(self, name, options, render):
        self.env, spec = make(name, {key: literal(text) for key, text in json.loads(options).items()}, render)
        flat = flat_box(self.env.observation_space)
        action, read = actor(self.env.action_space)
        self.obs = np.zeros(flat.shape, np.float32)
        self.spec = json.dumps(spec | {"low": texts(flat.low), "high": texts(flat.high), "action": action})
        self.write, self.read = writer(self.env.observation_space, self.obs), read
        # For Rust, which then does the work of `step` itself: whether observations may be vectors as they are, and
        # whether a float32 vector is an action.
        self.vectors = flat == self.env.observation_space
        self.single = self.env.action_space.dtype == np.float32 and len(self.env.action_space.shape) == 1

    def step(self, action):
        """Reward, terminated and truncated; the observation is in `self.obs`."""
        seen, reward, terminated, truncated, _ = self.env.step(self.read(action))
        self.write(seen)
        return reward, terminated, truncated

    def reset(self, seed):
        seen, _ = self.env.reset(seed=seed)
        self.write(seen)

    def picture(self):
        """Height, width, pixels and pictures a second."""
        frame = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"render() gave {type(frame).__name__}, not an array [height, width, 3]")
        fps = round(self.env.metadata.get("render_fps") or 30)
        return frame.shape[0], frame.shape[1], np.ascontiguousarray(frame, np.uint8).tobytes(), max(fps, 1)

    def close(self):
        self.env.close()


def make(name, kwargs, render):
    """The environment without a time limit, and what its specification says.

    `name` is a registered id, or `module:id`, which imports the module first, or `module:Class`.
    """
    try:
        import gymnasium
    except ModuleNotFoundError as e:
        if e.name != "gymnasium":
            raise
        python = sys.executable or "python"
        raise Unusable(f"Gymnasium is not installed for {python}: {python} -m pip install gymnasium") from None
    module, _, name = name.rpartition(":")
    source = None
    if module:
        try:
            source = importlib.import_module(module)
        except ModuleNotFoundError as e:
            if e.name.partition(".")[0] != module.partition(".")[0]:
                raise
            raise Unusable(
                f"there is no Python module '{e.name}' for '{module}:{name}': install it, or set PYTHONPATH to its folder"
            ) from None
    limit = kwargs.pop("max_episode_steps", None)
    if render:
        kwargs["render_mode"] = "rgb_array"
    try:
        factory = operator.attrgetter(name)(source) if source else None
    except AttributeError:
        factory = None
    if callable(factory):
        if render and "render_mode" not in inspect.signature(factory).parameters:
            raise Unusable(f"'{name}' takes no render_mode, so it cannot be drawn")
        env = factory(**kwargs)
        if not isinstance(env, gymnasium.Env):
            raise Unusable(f"'{module}:{name}' gives a {type(env).__name__}, which is no gymnasium.Env")
        return env, {"max_steps": limit, "threshold": None}
    try:
        spec = copy.deepcopy(gymnasium.spec(name))
        known = {"max_steps": limit or spec.max_episode_steps, "threshold": spec.reward_threshold}
        # Time limits are the caller's, and so are the checks: these wrappers would only cost time.
        spec.max_episode_steps, spec.order_enforce, spec.disable_env_checker = None, False, True
        return gymnasium.make(spec, **kwargs), known
    except (gymnasium.error.Error, ModuleNotFoundError) as e:
        where = f" (from '{module}')" if module else ""
        advice = f"; if another package has it: {sys.executable} -m pip install PACKAGE, and gymnasium:MODULE:{name}"
        raise Unusable(f"Gymnasium cannot make '{name}'{where}: {e}{'' if 'pip install' in str(e) else advice}") from None


class Unusable(Exception):
    """Said in one line, without a traceback."""


def literal(text):
    """The value that an option's text writes: JSON, a Python literal, a number, or else the text."""
    for read in (json.loads, ast.literal_eval, float):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            pass
    return text


def flat_box(space):
    """The box of flattened observations."""
    from gymnasium import spaces

    try:
        flat = spaces.flatten_space(space)
    except NotImplementedError:
        flat = None
    if not isinstance(flat, spaces.Box):
        raise Unusable(f"observations of {space} have no fixed length")
    return flat


def writer(space, out):
    """What writes an observation to the vector `out`, checked."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Box):

        def write(seen):
            if not space.contains(seen):
                raise ValueError(f"observation {seen!r} is not in {space}")
            out[:] = spaces.flatten(space, seen)

        return write

    shape, dtype, out = space.shape, space.dtype, out.reshape(space.shape)

    def write(seen):
        if seen.__class__ is not np.ndarray or seen.shape != shape or seen.dtype is not dtype:
            seen = np.asarray(seen)
            if seen.shape != shape:
                raise ValueError(f"observation has shape {seen.shape}, its space says {shape}")
            if seen.dtype.kind not in "biuf":
                raise TypeError(f"observation has dtype {seen.dtype}, its space says {dtype}")
        out[...] = seen

    return write


def actor(space):
    """The action space as steadfast knows it, and what makes an action of it of a float64 vector.

    Each action is an object of its own: environments keep them.
    """
    from gymnasium import spaces

    shape, dtype = space.shape, space.dtype
    if isinstance(space, spaces.Box):
        as_type = (lambda a: a.astype(dtype)) if dtype.kind == "f" else (lambda a: np.rint(a).astype(dtype))
        read = as_type if len(shape) == 1 else (lambda a: as_type(a).reshape(shape))
        return {"low": texts(space.low), "high": texts(space.high)}, read
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return {"choices": int(space.n)}, lambda a: np.int64(a[0]) + start
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        choices = getattr(space, "nvec", np.full(shape, 2))
        start = getattr(space, "start", 0)
        read = lambda a: (a.astype(dtype).reshape(shape) + start).astype(dtype)  # noqa: E731
        return {"choices": np.ravel(choices).tolist()}, read
    raise Unusable(f"actions of {space} are none of Box, Discrete, MultiDiscrete and MultiBinary")


def texts(values):
    """Numbers as text: JSON knows no infinity."""
    return [repr(float(x)) for x in np.ravel(values)]


def explain(error):
    """What went wrong: the message, then where."""
    # Of a package that is missing, Gymnasium says how to get it.
    if isinstance(error, Unusable) or type(error).__name__ == "DependencyNotInstalled":
        return str(error)
    *frames, message = traceback.format_exception(error)
    return message + "".join(frames)


MAKE, RESET, STEP, PICTURE, CLOSE = range(5)


def serve():
    """Answers requests (kind, environment, length, bytes) with (failed, length, bytes) until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What environments print must not come between.
    os.dup2(2, 1)
    drivers = {}

    def answer(kind, key, data):
        if kind == MAKE:
            drivers[key] = Driver(*json.loads(data))
            return drivers[key].spec.encode()
        driver = drivers[key]
        if kind == RESET:
            driver.reset(struct.unpack("<Q", data)[0])
            return driver.obs.tobytes()
        if kind == STEP:
            reward, terminated, truncated = driver.step(np.frombuffer(data, np.float64).copy())
            return struct.pack("<d??", reward, bool(terminated), bool(truncated)) + driver.obs.tobytes()
        if kind == PICTURE:
            height, width, pixels, fps = driver.picture()
            return struct.pack("<III", height, width, fps) + pixels
        drivers.pop(key).close()
        return b""

    while head := requests.read(9):
        kind, key, length = struct.unpack("<BII", head)
        try:
            failed, reply = False, answer(kind, key, requests.read(length))
        except Exception as e:
            failed, reply = True, explain(e).encode()
        replies.write(struct.pack("<BI", failed, len(reply)) + reply)
        replies.flush()


if __name__ == "__main__":
    serve()
