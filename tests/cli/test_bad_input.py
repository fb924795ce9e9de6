"""Wrong input is one clear error, and nothing is left half-done or unusable."""

from __future__ import annotations

import dataclasses
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from support import restored_registry

import vnl_envs
from vnl_envs import registry
from vnl_envs.motion.clip import Clip, ClipError, read_clips, write_clips
from vnl_envs.registry import get_body
from vnl_envs.rendering.renderer import Picture
from vnl_envs.tasks import GoalReaching
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import task_of, vector

IMITATION, JUMP, GOAL = (f"vnl/Rodent{n}-v0" for n in ("Imitation", "JumpGap", "GoalReaching"))


def one_line(error: BaseException) -> None:
    """An error message that fits a line and says something."""
    text = str(error)
    assert text.strip()
    assert "\n" not in text.strip()
    assert len(text) < 2000


@pytest.fixture(scope="module")
def env() -> Any:
    """A single environment."""
    return gymnasium.make(GOAL, disable_env_checker=True).unwrapped


@pytest.fixture(scope="module")
def three() -> Any:
    """A vector of three."""
    return vector(GOAL, 3)


# Actions

NU = 38
BAD_ACTIONS: dict[str, tuple[Callable[[tuple[int, ...]], Any], str]] = {
    "nan": (lambda s: np.full(s, np.nan, np.float32), "finite"),
    "inf": (lambda s: np.full(s, np.inf, np.float32), "finite"),
    "mixed": (lambda s: np.resize(np.array([np.inf, -np.inf], np.float32), s), "finite"),
    "int": (lambda s: np.zeros(s, np.int64), "float"),
    "bool": (lambda s: np.zeros(s, bool), "float"),
    "complex": (lambda s: np.zeros(s, complex), "float"),
    "object": (lambda s: np.full(s, None, object), "float"),
    "text": (lambda s: np.full(s, "a"), "float"),
    "none": (lambda s: None, "float"),
    "short": (lambda s: np.zeros((*s[:-1], s[-1] - 1), np.float32), "shape"),
    "long": (lambda s: np.zeros((*s[:-1], s[-1] + 1), np.float32), "shape"),
    "scalar": (lambda s: np.float32(0), "shape"),
    "more axes": (lambda s: np.zeros((1, *s), np.float32), "shape"),
    "empty": (lambda s: np.zeros(0, np.float32), "shape"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
@pytest.mark.parametrize("many", [False, True], ids=["single", "vector"])
@pytest.mark.filterwarnings("error")
def test_bad_actions(env: Any, three: Any, name: str, many: bool) -> None:
    """Refused by name of what is wrong, before anything moves."""
    target = three if many else env
    make, word = BAD_ACTIONS[name]
    target.reset(seed=0)
    before = target.get_state()
    with pytest.raises(ValueError, match=word) as caught:
        target.step(make(target.action_space.shape))
    one_line(caught.value)
    assert_same(target.get_state(), before)
    target.step(np.zeros(target.action_space.shape, np.float32))


def test_ragged_action(env: Any) -> None:
    """A list of lists of different lengths."""
    env.reset(seed=0)
    with pytest.raises(ValueError):  # noqa: PT011
        env.step([[0.0], [0.0, 1.0]])
    env.step([0.0] * NU)


@pytest.mark.parametrize("dtype", ["float16", "float64", "longdouble", "bfloat16"])
def test_every_float_is_an_action(env: Any, three: Any, dtype: str) -> None:
    """Also those of JAX and PyTorch that NumPy has no kind for."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    for target in (env, three):
        results = []
        for action in (np.float32, dtype):
            target.reset(seed=0)
            results.append(target.step(np.full(target.action_space.shape, 0.5, action)))
        assert_same(*results)


def test_large_actions_are_clipped(env: Any) -> None:
    """Beyond ±1, also beyond float32, is ±1."""
    results = []
    for size in (1.0, 50.0, 1e300):
        env.reset(seed=0)
        results.append(env.step(np.full(NU, size)))
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


def test_step_before_reset() -> None:
    """Is refused with Gymnasium's own error; also on the bare environment."""
    env = gymnasium.make(GOAL).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(NU, np.float32))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_step_of_a_vector_before_reset(mode: AutoresetMode) -> None:
    """In every autoreset mode, naming who needs it; a copy knows, too."""
    env = vector(GOAL, 3, autoreset_mode=mode)
    zero = np.zeros((3, NU), np.float32)
    for each in (env, pickle.loads(pickle.dumps(env))):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1, 2\]"):
            each.step(zero)
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[1\]"):
        env.step(zero)
    env.reset()
    env.step(zero)


# Ids and options


@pytest.mark.parametrize("id", ["vnl/Nothing-v0", "vnl/RodentJumpGap-v9", "nonsense", ""])
def test_unknown_ids(id: str) -> None:
    """Our own functions list what there is; Gymnasium raises its own error."""
    for function in (vnl_envs.make_task, vnl_envs.task_options):
        with pytest.raises(ValueError, match="vnl/RodentJumpGap-v0") as caught:
            function(id)
        one_line(caught.value)
    with pytest.raises(gymnasium.error.Error):
        gymnasium.make(id)


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    (JUMP, {"gaps": -0.1}, "gaps"),
    (JUMP, {"gaps": 9.0}, "gaps"),
    (JUMP, {"gaps": float("nan")}, "gaps"),
    (JUMP, {"gaps": "wide"}, "gaps"),
    (JUMP, {"gaps": [0.1, 0.2]}, "gaps"),
    (JUMP, {"difficulty": -1.0}, "difficulty"),
    (JUMP, {"difficulty": 100.0}, "difficulty"),
    (JUMP, {"difficulty": float("nan")}, "difficulty"),
    (JUMP, {"difficulty": "hard"}, "difficulty"),
    (JUMP, {"difficulty": None}, "difficulty"),
    (GOAL, {"reward": "dense"}, "reward.*progress.*sparse"),
    (GOAL, {"reward": None}, "reward"),
    (GOAL, {"actuation": "tendon"}, "actuation.*position.*torque.*muscle"),
    (GOAL, {"physics": "fancy"}, "physics.*fast.*full"),
    (GOAL, {"timestep_divisor": 0}, "timestep_divisor"),
    (GOAL, {"timestep_divisor": 1.5}, "timestep_divisor"),
    (GOAL, {"solver": "pgs"}, "solver.*newton.*cg"),
    (IMITATION, {"split": "validation"}, "split.*train.*test"),
    (IMITATION, {"split": None}, "split"),
    (IMITATION, {"split": ["train"]}, "split"),
    (IMITATION, {"clips": "no_such_clip"}, "no_such_clip"),
    (IMITATION, {"clips": ["no_such_clip"]}, "no_such_clip"),
    (IMITATION, {"clips": []}, "clips"),
    (IMITATION, {"clips": 7}, "clips"),
    (IMITATION, {"start": -1}, "start"),
    (IMITATION, {"start": 10**6}, "start"),
    (IMITATION, {"start": 1.5}, "start"),
    (IMITATION, {"start": "first"}, "start"),
    (IMITATION, {"start": True}, "start"),
    (IMITATION, {"noise": -0.1}, "noise"),
    (IMITATION, {"noise": 7.0}, "noise"),
    (IMITATION, {"noise": float("nan")}, "noise"),
    (IMITATION, {"noise": "much"}, "noise"),
    (IMITATION, {"noise": None}, "noise"),
    (IMITATION, {"noise": [0.1]}, "noise"),
    (IMITATION, {"reference_frames": ()}, "reference_frames"),
    (IMITATION, {"reference_frames": (0,)}, "reference_frames"),
    (IMITATION, {"reference_frames": (-1, 2)}, "reference_frames"),
    (IMITATION, {"reference_frames": (1.5,)}, "reference_frames"),
    (IMITATION, {"reference_frames": 3}, "reference_frames"),
    (IMITATION, {"reference_frames": "all"}, "reference_frames"),
    (IMITATION, {"reward": "custom"}, "reward.*gaussian.*comic"),
]


@pytest.mark.parametrize(("task_id", "options", "words"), BAD_OPTIONS,
                         ids=lambda v: "" if isinstance(v, str) else str(v)[:40])  # fmt: skip
def test_bad_options(task_id: str, options: dict[str, Any], words: str) -> None:
    """Each names the option and what was expected."""
    for make in (vnl_envs.make_task, gymnasium.make):
        with pytest.raises(ValueError, match=words) as caught:
            make(task_id, **options)
        one_line(caught.value)


MAKERS: dict[str, Callable[..., Any]] = {
    "make_task": vnl_envs.make_task,
    "make": gymnasium.make,
    "make_vec": gymnasium.make_vec,
    "SingleEnv": lambda *a, **k: vnl_envs.SingleEnv(*a, **k),
    "VectorEnv": lambda *a, **k: vnl_envs.VectorEnv(*a, **k),
    "SB3VecEnv": lambda id, **k: vnl_envs.SB3VecEnv(id, 2, **k),
    "make_functional": lambda *a, **k: vnl_envs.make_functional(*a, **k),
    "JaxVectorEnv": lambda *a, **k: vnl_envs.JaxVectorEnv(*a, **k),
    "parallel_env": lambda id, **k: vnl_envs.parallel_env("vnl/RodentGoalRace-v0", **k),
    "evaluate": lambda id, **k: vnl_envs.evaluate(id, "zero", 1, **k),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_unknown_arguments(maker: str) -> None:
    """A `TypeError` in Python's words, which TorchRL looks for; it lists what there is."""
    words = r"'actuations' \(did you mean 'actuation'\?\), 'frameskip'; .*actuation.*reward"
    with pytest.raises(TypeError, match=f"unexpected keyword argument {words}") as caught:
        MAKERS[maker](GOAL, frameskip=4, actuations="torque")
    one_line(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": -1}, "num_envs"),
        ({"num_envs": 1.5}, "num_envs"),
        ({"num_envs": "4"}, "num_envs"),
        ({"num_envs": 2, "threads": -1}, "threads"),
        ({"num_envs": 2, "threads": "all"}, "threads"),
        ({"num_envs": 2, "autoreset_mode": "sometimes"}, "autoreset_mode.*SAME_STEP"),
        ({"num_envs": 2, "autoreset_mode": None}, "autoreset_mode"),
        ({"num_envs": 2, "max_episode_steps": 0}, "max_episode_steps"),
        ({"num_envs": 2, "max_episode_steps": 5.0}, "max_episode_steps"),
        ({"num_envs": 2, "max_episode_steps": 1001}, "max_episode_steps.*1000"),
        ({"num_envs": 2, "render_mode": "human"}, "render_mode"),
        ({"num_envs": 2, "observation": "list"}, "observation.*flat.*dict"),
    ],
)
def test_bad_vector_arguments(arguments: dict[str, Any], words: str) -> None:
    """Arguments of the vector environment."""
    with pytest.raises(ValueError, match=words):
        vnl_envs.VectorEnv(GOAL, **arguments)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_names_of_autoreset_modes(mode: AutoresetMode) -> None:
    """The three ways in which Gymnasium's pages write a mode."""
    for written in (mode, mode.name, mode.value):
        env = vector(GOAL, 2, autoreset_mode=written)
        assert env.metadata["autoreset_mode"] is mode


def test_sb3_decides_the_autoreset_mode() -> None:
    """A mode that it could not work with is refused like any wrong argument."""
    with pytest.raises(TypeError, match="autoreset_mode"):
        vnl_envs.SB3VecEnv(GOAL, 2, autoreset_mode="NextStep")


def test_numpy_integers_are_integers(env: Any, three: Any) -> None:
    """Sizes, numbers and seeds may come out of an array."""
    assert vnl_envs.VectorEnv(GOAL, np.int64(2), width=np.int32(64)).num_envs == 2
    race = vnl_envs.parallel_env("vnl/RodentGoalRace-v0")
    for target in (env, three, gymnasium.make(GOAL), race):
        assert_same(target.reset(seed=np.int64(3))[0], target.reset(seed=3)[0])


SIZES = ("640", 0, -5, 64.0, None, True)


@pytest.mark.parametrize(
    "arguments",
    [{"render_mode": "ansi"}, {"observation": "list"}]
    + [{name: size} for name in ("width", "height") for size in SIZES]
    + [{"vision": value} for value in ("false", 1, None)],
)
def test_bad_drawing_arguments(arguments: dict[str, Any]) -> None:
    """Named when given, not by the first picture, in every environment that has them."""
    (name,) = arguments
    faces: list[Callable[..., Any]] = [vnl_envs.SingleEnv, vnl_envs.VectorEnv]
    if name in ("width", "height"):
        faces += [lambda id, **k: vnl_envs.parallel_env("vnl/RodentGoalRace-v0", **k)]
        faces += [lambda id, **k: Picture(task_of(id).world, **k)]
    for face in faces:
        with pytest.raises(ValueError, match=name) as caught:
            face(GOAL, **arguments)
        one_line(caught.value)


# Resets


def bad_episodes(task_id: str) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Ways to spoil an episode of a task."""
    ways: dict[str, Callable[[dict[str, Any]], Any]] = {
        "list": lambda e: [e],
        "text": lambda e: "episode",
        "empty": lambda e: {},
        "missing": lambda e: dict(list(e.items())[1:]),
        "unknown": lambda e: {**e, "extra": 1.0},
        "shape": lambda e: {k: np.zeros((3, 3, 3)) for k in e},
        "none": lambda e: dict.fromkeys(e),
        "texts": lambda e: {k: np.full(np.shape(v), "a") for k, v in e.items()},
        "nan": lambda e: {k: np.full(np.shape(v), np.nan) for k, v in e.items()},
    }
    if "Imitation" in task_id:
        ways |= {
            "clip beyond": lambda e: {**e, "clip": np.int32(99)},
            "clip negative": lambda e: {**e, "clip": np.int32(-1)},
            "frame beyond": lambda e: {**e, "start": np.int32(10**6)},
            "frame negative": lambda e: {**e, "start": np.int32(-5)},
            "fraction": lambda e: {**e, "start": 1.5},
        }
    return ways


@pytest.mark.parametrize(
    ("task_id", "way"), [(i, w) for i in (IMITATION, JUMP, GOAL) for w in bad_episodes(i)]
)
def test_malformed_episodes(task_id: str, way: str) -> None:
    """Refused without touching the episode under way; so in a vector."""
    env = gymnasium.make(task_id, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    before = env.get_state()
    spoilt = bad_episodes(task_id)[way](env.episode)
    with pytest.raises(ValueError, match="episode") as caught:
        env.reset(options={"episode": spoilt})
    one_line(caught.value)
    assert_same(env.get_state(), before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": [1, 2]}, "seed"),
        ({"seed": [1, 2, 3, 4]}, "seed"),
        ({"seed": -1}, "seed|[Ss]eed"),
        ({"seed": [1, 2, -3]}, "seed|[Ss]eed"),
        ({"seed": 1.5}, "seed"),
        ({"options": {"reset_mask": np.array([True])}}, "reset_mask"),
        ({"options": {"reset_mask": np.array([1, 0, 1])}}, "reset_mask"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, "reset_mask"),
        ({"options": {"reset_mask": "all"}}, "reset_mask"),
        ({"options": {"mask": None}}, "episode.*mask|mask.*episode"),
        ({"options": {"episode": {}}}, "episode"),
        ({"options": {"episode": 3}}, "episode"),
    ],
)
def test_bad_vector_resets(three: Any, arguments: dict[str, Any], words: str) -> None:
    """Refused with nothing changed, generators included."""
    three.reset(seed=0)
    before = three.get_state()
    with pytest.raises((ValueError, gymnasium.error.Error), match=words):
        three.reset(**arguments)
    assert_same(three.get_state(), before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"seed": -1}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": "1"}, "seed"),
     ({"options": {"Episode": {}}}, "Episode"),
     ({"options": {"reset_mask": np.ones(1, bool)}}, "reset_mask"), ({"options": 5}, "options")],
)  # fmt: skip
def test_bad_single_resets(env: Any, arguments: dict[str, Any], words: str) -> None:
    """The same for a single environment."""
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises((ValueError, gymnasium.error.Error), match=words):
        env.reset(**arguments)
    assert_same(env.get_state(), before)


def test_bad_states(env: Any, three: Any) -> None:
    """A state of another task, of another number or a damaged one changes nothing."""
    env.reset(seed=0)
    three.reset(seed=0)
    before = env.get_state()
    other = gymnasium.make(IMITATION).unwrapped
    other.reset(seed=0)
    good = env.get_state()
    spoilt = [
        other.get_state(),
        three.get_state(),
        None,
        {},
        {k: v for k, v in good.items() if k != "generator"},
        {k: v for k, v in good.items() if k != "over"},
        {**good, "carry": {}},
        {**good, "episode": {}},
        {**good, "generator": 3},
    ]
    for number, state in enumerate(spoilt):
        with pytest.raises(ValueError, match="state"):
            env.set_state(state)
        assert_same(env.get_state(), before, f"state {number}")


# Clips


def clips_of(count: int = 2, frames: int = 12, **changes: Any) -> list[Clip]:
    """Clips of the standing rat."""
    body = task_of(GOAL).body
    qpos = np.tile(body.standing_qpos, (frames, 1)).astype(np.float32)
    qpos[:, 0] = np.linspace(0, 0.1, frames)
    texts = {"label": "walk", "split": "train", "source": "test", "licence": "CC0-1.0"}
    return [Clip(f"clip {i}", qpos, **{**texts, **changes}) for i in range(count)]


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """A sound file of two clips."""
    path = tmp_path / "clips.h5"
    write_clips(path, clips_of(), task_of(GOAL).body)
    return path


def refused(path: Path, words: str = "", body: Any = None) -> None:
    """Reading the file is one `ClipError` of one line, soon, that names the file or the clip."""
    body = body or task_of(GOAL).body
    begin = time.perf_counter()
    with pytest.raises(ClipError, match=words or None) as caught:
        read_clips(path, body)
    assert time.perf_counter() - begin < 2
    one_line(caught.value)
    assert path.name in str(caught.value)


def test_sound_file(clip_file: Path) -> None:
    """The file that the tests below spoil is sound itself."""
    assert len(read_clips(clip_file, task_of(GOAL).body)) == 2
    assert vnl_envs.make_task(IMITATION, clips=clip_file).reference.length.tolist() == [12, 12]


@settings(max_examples=60)
@given(share=st.floats(0, 0.999))
def test_truncated_file(tmp_path_factory: Any, share: float) -> None:
    """Cut anywhere."""
    path = tmp_path_factory.mktemp("cut") / "cut.h5"
    write_clips(path, clips_of(), task_of(GOAL).body)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


@settings(max_examples=150)
@given(share=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_flipped_bit(tmp_path_factory: Any, share: float, bit: int) -> None:
    """A file with one wrong bit is refused, or read without harm."""
    path = tmp_path_factory.mktemp("flip") / "flip.h5"
    write_clips(path, clips_of(), task_of(GOAL).body)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    path.write_bytes(content)
    begin = time.perf_counter()
    try:
        clips = read_clips(path, task_of(GOAL).body)
    except ClipError as error:
        one_line(error)
    else:
        assert all(np.isfinite(c.qpos).all() for c in clips)
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"not a clip file", b"\x89HDF\r\n\x1a\n"])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    """Files that are not HDF5."""
    path = tmp_path / "odd.h5"
    path.write_bytes(content)
    refused(path)


def test_folder_and_missing_file(tmp_path: Path) -> None:
    """A folder is no clip file; a missing file is named."""
    body = task_of(GOAL).body
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_clips(tmp_path / "nowhere.h5", body)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        vnl_envs.make_task(IMITATION, clips=str(tmp_path / "nowhere.h5"))
    folder = tmp_path / "folder.h5"
    folder.mkdir()
    refused(folder)


def spoil_qpos(change: Callable[[np.ndarray], Any]) -> Callable[[h5py.File], None]:
    """Replace the first clip's poses."""

    def spoil(file: h5py.File) -> None:
        qpos = file["clip 0/qpos"][()]
        del file["clip 0/qpos"]
        file["clip 0/qpos"] = change(qpos)

    return spoil


def put(where: np.ndarray, index: Any, value: float) -> np.ndarray:
    """A copy with one change."""
    out = np.array(where)
    out[index] = value
    return out


def drop(name: str, part: str | None = None) -> Callable[[h5py.File], None]:
    """Remove an attribute of the file or of a part."""
    return lambda file: (file[part] if part else file).attrs.__delitem__(name)


def attribute(name: str, value: Any, part: str | None = None) -> Callable[[h5py.File], None]:
    """Change an attribute."""
    return lambda file: (file[part] if part else file).attrs.__setitem__(name, value)


def turn_names(file: h5py.File) -> None:
    """Another joint order."""
    file.attrs["joint_names"] = list(file.attrs["joint_names"])[::-1]


def as_group(file: h5py.File) -> None:
    """A group where poses belong."""
    del file["clip 0/qpos"]
    file.create_group("clip 0/qpos")


SPOILT: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no format": (drop("format"), "format|not a vnl_envs-clips"),
    "other format": (attribute("format", "mp4"), "vnl_envs-clips"),
    "format number": (attribute("format", 3), "'format' of the file must be a text"),
    "format array": (attribute("format", [1.0, 2.0]), ""),
    "no version": (drop("version"), "version"),
    "version": (attribute("version", 99), "version.*99"),
    "version array": (attribute("version", [1, 1]), "version"),
    "rate": (attribute("rate", 30.0), "rate.*30"),
    "no rate": (drop("rate"), "rate"),
    "body": (attribute("body", "mouse"), "mouse.*rodent"),
    "fingerprint": (attribute("fingerprint", "0" * 16), "fingerprint"),
    "no joints": (drop("joint_names"), "joint_names"),
    "joint order": (turn_names, "joint"),
    "joint number": (attribute("joint_names", 3), "joint"),
    "one joint": (attribute("joint_names", "neck"), "joint"),
    "no label": (drop("label", "clip 0"), "clip 0.*label"),
    "no split": (drop("split", "clip 0"), "clip 0.*split"),
    "split": (attribute("split", "validation", "clip 0"), "clip 0.*split.*train"),
    "no poses": (lambda f: f.__delitem__("clip 0/qpos"), "clip 0.*qpos"),
    "no clips": (lambda f: f.clear(), "no clips"),
    "stray data": (lambda f: f.__setitem__("stray", np.zeros(3)), "stray"),
    "group": (as_group, ""),
    "text": (spoil_qpos(lambda q: [["a"] * q.shape[1]] * len(q)), "clip 0"),
    "complex": (spoil_qpos(lambda q: q.astype(complex)), "clip 0"),
    "flat": (spoil_qpos(lambda q: q.ravel()), r"clip 0.*\(T, 74\)"),
    "scalar": (spoil_qpos(lambda q: 3.0), "clip 0"),
    "narrow": (spoil_qpos(lambda q: q[:, :-1]), r"clip 0.*74.*73"),
    "wide": (spoil_qpos(lambda q: np.pad(q, ((0, 0), (0, 1)))), r"clip 0.*74.*75"),
    "short": (spoil_qpos(lambda q: q[:1]), "clip 0.*frames"),
    "empty": (spoil_qpos(lambda q: q[:0]), "clip 0.*frames"),
    "nan": (spoil_qpos(lambda q: put(q, (5, 9), np.nan)), "clip 0.*frame 5"),
    "inf": (spoil_qpos(lambda q: put(q, (7, 0), np.inf)), "clip 0.*frame 7"),
    "quaternion": (spoil_qpos(lambda q: put(q, (4, slice(3, 7)), 0)), "clip 0.*frame 4.*quat"),
    "norm": (spoil_qpos(lambda q: put(q, (2, 3), 1.2)), "clip 0.*frame 2.*quat"),
    "overflow": (spoil_qpos(lambda q: put(q.astype(float), (3, 3), 1e30)), "clip 0.*frame 3"),
}


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_spoilt_file(clip_file: Path, name: str) -> None:
    """Each says what is wrong and where."""
    spoil, words = SPOILT[name]
    with h5py.File(clip_file, "r+") as file:
        spoil(file)
    refused(clip_file, words)


def test_clip_of_another_body(clip_file: Path) -> None:
    """A rat's clip is refused by the humanoid, which names both."""
    body = task_of("vnl/HumanoidGoalReaching-v0").body
    refused(clip_file, "rodent.*humanoid", body)
    with pytest.raises(ClipError, match="rodent"):
        gymnasium.make("vnl/HumanoidImitation-v0", clips=str(clip_file))


names = st.text(st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1,
                max_size=12).filter(lambda n: n.strip(".") != "")  # fmt: skip
texts = st.text(st.characters(exclude_categories=["C"]), max_size=20)


@given(
    spec=st.lists(
        st.tuples(names, texts, texts, texts, st.sampled_from(["train", "test"]),
                  st.integers(2, 30)),
        min_size=1, max_size=4, unique_by=lambda c: c[0],
    ),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_clips_survive_a_round_trip(tmp_path_factory: Any, spec: list[Any], seed: int) -> None:
    """What is written is read again: order, names, texts and every bit of the poses."""
    body, rng = task_of(GOAL).body, np.random.default_rng(seed)
    clips = []
    for name, label, source, licence, split, frames in spec:
        qpos = rng.normal(size=(frames, body.nq))
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        clips.append(Clip(name, qpos.astype(np.float32), label, split, source, licence))
    path = tmp_path_factory.mktemp("trip") / "clips.h5"
    write_clips(path, clips, body)
    back = read_clips(path, body)
    assert [c.name for c in back] == [c.name for c in clips]
    for one, two in zip(clips, back, strict=True):
        assert_same(dataclasses.asdict(two), dataclasses.asdict(one))


@pytest.mark.parametrize("name", ["", ".", "a/b", "/", "a\0b"])
def test_bad_clip_names(tmp_path: Path, name: str) -> None:
    """A name that could not be read again is not written, and leaves no file."""
    clip = dataclasses.replace(clips_of(1)[0], name=name)
    with pytest.raises(ClipError):
        write_clips(tmp_path / "clips.h5", [clip], task_of(GOAL).body)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written(tmp_path: Path) -> None:
    """A clip that does not fit, a name twice or no clip at all leave no file, or the old one."""
    path, body = tmp_path / "clips.h5", task_of(GOAL).body
    good = clips_of()
    bad = [
        [*good, dataclasses.replace(good[0], name="bad", qpos=good[0].qpos[:, 1:])],
        [good[0], good[0]],
        [],
    ]
    for clips in bad:
        with pytest.raises(ClipError):
            write_clips(path, clips, body)
        assert not list(tmp_path.iterdir())
    write_clips(path, good, body)
    content = path.read_bytes()
    with pytest.raises(ClipError):
        write_clips(path, bad[0], body)
    assert path.read_bytes() == content
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_clips(tmp_path / "nowhere" / "clips.h5", good, body)


# Registration

SETTINGS = {"horizon": 10, "target_speed": 0.75, "radius": 0.1, "distance": (0.4, 1.2)}


def unchanged(action: Callable[[], Any], words: str) -> None:
    """The registration is refused and leaves no trace, here or with Gymnasium."""
    tables = (registry._ROWS, registry._BODIES, gymnasium.registry)
    before = [dict(t) for t in tables]
    with pytest.raises(ValueError, match=words) as caught:
        action()
    one_line(caught.value)
    assert [dict(t) for t in tables] == before


def test_registering() -> None:
    """A registered task is there for Gymnasium and for us."""
    with restored_registry():
        vnl_envs.register_task("lab/Short-v3", body="rodent", task=GoalReaching, **SETTINGS)
        assert "lab/Short-v3" in vnl_envs.task_ids()
        assert gymnasium.spec("lab/Short-v3").max_episode_steps == 10
        env = gymnasium.make("lab/Short-v3")
        env.reset(seed=0)
        zero = np.zeros(env.action_space.shape, np.float32)
        assert [env.step(zero)[3] for _ in range(10)] == [False] * 9 + [True]
        unchanged(
            lambda: vnl_envs.register_task("lab/Short-v3", "rodent", GoalReaching, **SETTINGS),
            "lab/Short-v3.*already",
        )
    assert "lab/Short-v3" not in vnl_envs.task_ids()


@pytest.mark.parametrize(
    ("id", "words"),
    [("vnl/RodentJumpGap-v0", "already"), ("CartPole-v1", "already|form"),
     ("Plain-v0", "namespace"), ("lab/NoVersion", "form|-v0"), ("lab/-v0", "form|-v0"),
     ("lab/Spa ce-v0", "form|-v0"),
     ("", "form|-v0"), ("a/b/c-v0", "form|-v0")],
)  # fmt: skip
def test_bad_ids(id: str, words: str) -> None:
    """Taken or malformed ids."""
    unchanged(lambda: vnl_envs.register_task(id, "rodent", GoalReaching, **SETTINGS), words)


@pytest.mark.parametrize("body", ["mouse", "", "Rodent"])
def test_unknown_body(body: str) -> None:
    """The message lists what there is."""
    unchanged(lambda: vnl_envs.register_task("lab/X-v0", body, GoalReaching, **SETTINGS),
              "humanoid.*rodent")  # fmt: skip


@pytest.mark.parametrize("horizon", [0, 10.0, "ten"])
def test_bad_horizon(horizon: Any) -> None:
    """Gymnasium is told of it at once, so it is a number of steps."""
    settings = {**SETTINGS, "horizon": horizon}
    unchanged(lambda: vnl_envs.register_task("lab/X-v0", "rodent", GoalReaching, **settings),
              "horizon")  # fmt: skip


def test_body_twice() -> None:
    """A name is taken once."""
    unchanged(lambda: vnl_envs.register_body(get_body("rodent")), "rodent.*already")


def test_body_under_another_name() -> None:
    """A body of one's own is made like ours, and its elements carry its name."""
    with restored_registry():
        vnl_envs.register_body(dataclasses.replace(get_body("rodent"), name="rat2"))
        vnl_envs.register_task("lab/Rat2-v0", body="rat2", task=GoalReaching, **SETTINGS)
        env = gymnasium.make("lab/Rat2-v0").unwrapped
        assert env.model.body("rat2/torso").id > 0


def test_missing_settings_are_named() -> None:
    """A task registered without its constants says which are missing when made."""
    with restored_registry():
        vnl_envs.register_task("lab/Bare-v0", body="rodent", task=GoalReaching, radius=0.1)
        with pytest.raises((ValueError, TypeError), match=r"horizon|target_speed|distance"):
            vnl_envs.make_task("lab/Bare-v0")


# Evaluation


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"policy": "clever"}, "policy.*zero.*random.*track"),
        ({"policy": "track"}, "track"),
        ({"policy": None}, "policy"),
        ({"policy": "zero", "episodes": 0}, "episodes"),
        ({"policy": "zero", "episodes": 1.5}, "episodes"),
        ({"policy": "zero", "num_envs": 0}, "num_envs"),
        ({"policy": "zero", "seed": -1}, "seed|non-negative"),
        ({"policy": lambda o: np.zeros((1, 2))}, "shape"),
        ({"policy": lambda o: np.full((len(o), NU), np.nan)}, "finite"),
    ],
)
def test_bad_evaluations(arguments: dict[str, Any], words: str) -> None:
    """Refused before any time is spent."""
    arguments = {"episodes": 2, **arguments}
    with pytest.raises(ValueError, match=words):
        vnl_envs.evaluate(GOAL, **arguments)
