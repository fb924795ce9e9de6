"""Motion files of other programs become clips that fit, or one line of error."""

from __future__ import annotations

import dataclasses
import functools
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import mujoco
import numpy as np
import pytest
from dm_control import mjcf
from dm_control.locomotion import mocap
from dm_control.locomotion.arenas import floors
from dm_control.locomotion.walkers import cmu_humanoid, rescale, rodent
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_files import TEXTS, body_of, motion, put_walker, write_dm_control, write_stac
from support import recording

from vnl_envs.bodies.humanoid import HUMANOID
from vnl_envs.bodies.model import BodyModel
from vnl_envs.bodies.rodent import SCALE
from vnl_envs.motion.clip import Clip, ClipError, check_clip, read_clips, write_clips
from vnl_envs.motion.clip import body_of as motion_body
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.readers import FORMATS, format_of, read_motion
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world
from vnl_envs.testing.comparison import assert_same

FIXTURE = Path(mocap.__file__).with_name("test_trajectories.h5")
BODIES = ("rodent", "humanoid")


# An oracle that shares nothing with the readers: dm_control's own walkers and physics


@functools.cache
def walker_of(name: str) -> tuple[Any, mjcf.Physics]:
    """dm_control's walker on a floor, on a free joint."""
    if name == "rodent":
        walker = rodent.Rat()
        rescale.rescale_subtree(walker.mjcf_model, SCALE, SCALE)
    else:
        walker = cmu_humanoid.CMUHumanoidPositionControlledV2020()
    arena = floors.Floor()
    walker.create_root_joints(arena.attach(walker))
    return walker, mjcf.Physics.from_mjcf_model(arena.mjcf_model)


def recorded(name: str, poses: np.ndarray, torso: bool) -> dict[str, np.ndarray]:
    """What dm_control would write of poses (T, nq) that its physics is put into.

    `position` is that of the free joint, or of the root body (`torso`).
    """
    walker, physics = walker_of(name)
    fields: dict[str, list[np.ndarray]] = {}
    for pose in poses:
        with physics.reset_context():
            walker.set_pose(physics, pose[:3], pose[3:7])
            physics.bind(walker.mocap_joints).qpos = pose[7:]
        position, quaternion = walker.get_pose(physics)
        frame = {
            "position": physics.bind(walker.root_body).xpos if torso else position,
            "quaternion": quaternion,
            "joints": physics.bind(walker.mocap_joints).qpos,
            "body_positions": physics.bind(walker.mocap_tracking_bodies).xpos,
        }
        for key, values in frame.items():
            fields.setdefault(key, []).append(np.array(values).ravel())
    return {key: np.array(values) for key, values in fields.items()}


@pytest.mark.parametrize("torso", [False, True], ids=["free joint", "torso"])
@pytest.mark.parametrize("name", BODIES)
def test_dm_control_against_its_own_physics(tmp_path: Path, name: str, torso: bool) -> None:
    """Bodies of the clip are where dm_control's physics has them, to 1 mm, whoever's pose it is."""
    body, path = body_of(name), tmp_path / "mocap.h5"
    fields = recorded(name, motion(body, 8), torso)
    with h5py.File(path, "w") as file:
        put_walker(file, "take", fields, 0.02)
    (clip,) = read_motion(path, body)
    xpos = forward_kinematics(body, clip.qpos.astype(float))["xpos"]
    found = xpos[:, body.body_index(*body.body.tracked_bodies)]
    wanted = fields["body_positions"].reshape(found.shape)
    assert np.linalg.norm(found - wanted, axis=2).max() < 1e-3
    assert (clip.name, clip.split, clip.label) == ("take", "train", "unlabelled")


@pytest.mark.parametrize("name", BODIES)
def test_joint_and_body_order_are_dm_controls(name: str) -> None:
    """Joints of such files have no names: their order is the walker's, which is the model's."""
    walker, _ = walker_of(name)
    body = body_of(name)
    assert tuple(j.name for j in walker.mocap_joints) == body.joint_names
    assert tuple(b.name for b in walker.mocap_tracking_bodies) == body.body.tracked_bodies


@functools.cache
def humanoid_of_2019() -> BodyModel:
    """The humanoid that the fixture was fitted to."""

    def make_spec() -> mujoco.MjSpec:
        walker = cmu_humanoid.CMUHumanoidPositionControlled()
        return mujoco.MjSpec.from_string(
            walker.mjcf_model.to_xml_string(), assets=walker.mjcf_model.get_assets()
        )

    return build_world(Floor(), [dataclasses.replace(HUMANOID, make_spec=make_spec)]).body


def test_fixture_on_its_own_body() -> None:
    """dm_control's own file, 20 Hz: bodies of the clips are where the file has them, to 1 mm."""
    body = humanoid_of_2019()
    clips = list(read_motion(FIXTURE, body))
    assert [clip.name for clip in clips] == ["cmuv2019_001", "cmuv2019_002"]
    names = tuple(n for n in HUMANOID.tracked_bodies if n != "face")
    with h5py.File(FIXTURE) as file:
        for clip in clips:
            # 10 frames 50 ms apart; every other one falls on a frame of 20 ms.
            assert len(clip) == 23
            xpos = forward_kinematics(body, clip.qpos[::5].astype(float))["xpos"]
            wanted = file[f"{clip.name}/walkers/walker_0/body_positions"][:, ::2].T
            found = xpos[:, body.body_index(*names)].reshape(wanted.shape)
            assert np.abs(found - wanted).max() < 1e-3


@pytest.mark.parametrize("name", BODIES)
def test_fixture_of_another_body_is_refused(name: str) -> None:
    """The rat has other joints; the humanoid of 2020 has longer legs than that of 2019."""
    with pytest.raises(ClipError, match=r"shape|mm away"):
        list(read_motion(FIXTURE, body_of(name)))


def test_cmu_names(tmp_path: Path) -> None:
    """Names of the CMU recordings say who moved, under which licence, and at times how."""
    body, path = body_of("humanoid"), tmp_path / "cmu.h5"
    names = ("CMU_016_22", "CMU_139_16", "CMU_999_01", "other")
    write_dm_control(path, body, {name: motion(body, 4) for name in names}, dt=0.03)
    clips = {clip.name: clip for clip in read_motion(path, body)}
    assert [clips[n].subject for n in names] == ["CMU 16", "CMU 139", "CMU 999", ""]
    assert [clips[n].session for n in names] == [*names[:3], ""]
    assert [clips[n].label for n in names] == ["walk", "get up", "unlabelled", "unlabelled"]
    assert ["CMU" in clips[n].licence for n in names] == [True, True, True, False]
    assert [len(clip) for clip in clips.values()] == [5] * 4


def test_rate_of_dm_control_files(tmp_path: Path) -> None:
    """`dt` counts; without it the rate must be given, and what contradicts it is refused."""
    body, path = body_of("rodent"), tmp_path / "mocap.h5"
    write_dm_control(path, body, {"a": motion(body, 21)}, dt=0.01)
    (clip,) = read_motion(path, body, rate=100.0)
    assert len(clip) == 11
    with pytest.raises(ClipError, match=r"100 Hz.*30"):
        list(read_motion(path, body, rate=30.0))
    with h5py.File(path, "r+") as file:
        del file["a"].attrs["dt"]
    with pytest.raises(ClipError, match="rate"):
        list(read_motion(path, body))
    (clip,) = read_motion(path, body, rate=25.0)
    assert len(clip) == 41


# STAC-MJX


def test_recorded_stac_fit() -> None:
    """The published fit: its bodies, by our kinematics, to 1 mm."""
    body, path = body_of("rodent"), recording("rat_stac_fit_50_frames.h5")
    (clip,) = read_motion(path, body)
    assert (clip.name, clip.session) == (path.stem, path.stem)
    with h5py.File(path) as file:
        names = [name.decode() for name in file["names_xpos"]]
        wanted = file["xpos"][()][:, [names.index(name) for name in body.body_names]]
    found = forward_kinematics(body, clip.qpos.astype(float))["xpos"]
    assert np.linalg.norm(found - wanted, axis=2).max() < 1e-3


@pytest.mark.parametrize("json", [False, True], ids=["yaml", "json"])
def test_stac_snippets(tmp_path: Path, json: bool) -> None:
    """A file of snippets is so many clips, named and labelled as the settings have them."""
    body, path = body_of("rodent"), tmp_path / "many.h5"
    names = ["data/FastWalk_12.p", "data/Rear_3.p", "data/Rear_3.p"]
    listed = str(names).replace("'", '"')
    config = (
        f'{{"model": {{"RENDER_FPS": 50, "snips_order": {listed}}}}}'
        if json
        else "model:\n  RENDER_FPS: 50\n  snips_order:\n" + "".join(f"  - {n}\n" for n in names)
    )
    qpos = motion(body, 12)
    write_stac(path, body, qpos, config, qvel=np.zeros((12, body.nv)))
    clips = list(read_motion(path, body))
    assert [c.name for c in clips] == ["FastWalk_12", "Rear_3 1", "Rear_3 2"]
    assert [c.label for c in clips] == ["FastWalk", "Rear", "Rear"]
    joined = np.concatenate([c.qpos for c in clips])
    np.testing.assert_allclose(joined[:, 7:], qpos[:, 7:], atol=1e-6)
    np.testing.assert_allclose(joined[:, :3], qpos[:, :3], atol=1e-5)


@pytest.mark.parametrize(("per_clip", "count"), [(4, 3), (12, 1), (5, 1), (360, 1)])
def test_stac_chunks(tmp_path: Path, per_clip: int, count: int) -> None:
    """What was fitted apart stays apart, and is of one recording."""
    body, path = body_of("rodent"), tmp_path / "session.h5"
    config = f"model:\n  RENDER_FPS: 50\nstac:\n  n_frames_per_clip: {per_clip}\n"
    write_stac(path, body, motion(body, 12), config)
    clips = list(read_motion(path, body))
    assert len(clips) == count
    assert {clip.session for clip in clips} == {"session"}
    assert sum(len(clip) for clip in clips) == 12


def test_stac_joints_by_name(tmp_path: Path) -> None:
    """Columns in another order, under names with a prefix, are put right."""
    body, paths = body_of("rodent"), [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path in paths:
        write_stac(path, body, motion(body, 6), "RENDER_FPS: 50\n")
    with h5py.File(paths[1], "r+") as file:
        order = [*range(7), *reversed(range(7, body.nq))]
        file["qpos"][...] = file["qpos"][()][:, order]
        names = [b"walker/" + n for n in file["names_qpos"][()][order]]
        del file["names_qpos"]
        file["names_qpos"] = np.array(names)
    one, two = (next(read_motion(path, body)).qpos for path in paths)
    assert_same(one, two)


def test_stac_rate(tmp_path: Path) -> None:
    """The rate of the settings is for videos: one that is given goes before it."""
    body, path = body_of("rodent"), tmp_path / "fit.h5"
    write_stac(path, body, motion(body, 11), "RENDER_FPS: 100\n")
    assert [len(*read_motion(path, body, rate=rate)) for rate in (None, 25.0)] == [6, 21]


# Any format


@pytest.mark.parametrize("name", BODIES)
def test_clips_fit(tmp_path: Path, name: str) -> None:
    """What a reader yields can be written and read again, by detection."""
    body, path = body_of(name), tmp_path / "clips.h5"
    write_dm_control(tmp_path / "mocap.h5", body, {"a": motion(body, 9), "b": motion(body, 7, 1)})
    clips = list(read_motion(tmp_path / "mocap.h5", body))
    for clip in clips:
        check_clip(clip, body)
        assert clip.qpos.dtype == np.float32
    write_clips(path, clips, body)
    for clip, back in zip(clips, read_motion(path, body), strict=True):
        assert_same(dataclasses.asdict(back), dataclasses.asdict(clip))
    assert [format_of(p) for p in (tmp_path / "mocap.h5", path)] == ["dm_control", "clips"]


def test_descriptions(tmp_path: Path) -> None:
    """Label and licence of all clips, labels by name, and names that there are not."""
    body, path = body_of("rodent"), tmp_path / "mocap.h5"
    write_dm_control(path, body, {"a": motion(body, 4), "b": motion(body, 4)})
    clips = list(read_motion(path, body, label="walk", licence="MIT", labels={"b": "trot"}))
    assert [(c.label, c.licence) for c in clips] == [("walk", "MIT"), ("trot", "MIT")]
    with pytest.raises(ClipError, match="'c'"):
        list(read_motion(path, body, labels={"c": "trot"}))


def test_unknown_files_and_formats(tmp_path: Path) -> None:
    """One line that lists the formats; a missing file and a folder are named."""
    body, path = body_of("rodent"), tmp_path / "notes.txt"
    path.write_text("not motion")
    with pytest.raises(ClipError, match="notes.txt.*" + ".*".join(FORMATS)):
        read_motion(path, body)
    with pytest.raises(ValueError, match=r"format.*stac"):
        read_motion(path, body, format="bvh")
    with pytest.raises(ClipError, match="not a file"):
        read_motion(tmp_path, body)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_motion(tmp_path / "nowhere.h5", body)
    with pytest.raises(ClipError, match="50 Hz"):
        list(read_motion(clip_file(tmp_path), body, rate=30.0))


def clip_file(folder: Path) -> Path:
    """A sound file of ours."""
    path = folder / "clips.h5"
    write_clips(path, [Clip("a", motion(body_of("rodent"), 4).astype(np.float32), **TEXTS)],
                body_of("rodent"))  # fmt: skip
    return path


FORMS = {
    "bytes": np.bytes_,
    "array of bytes": lambda text: np.array([text.encode()]),
    "array of one": lambda text: np.array([text], object),
    "column": lambda text: np.array([[text.encode()]]),
    "filled with nulls": lambda text: np.array(text.encode() + b"\0\0", "S40"),
    "byte order mark": lambda text: "\ufeff" + text,
}
"""Ways in which other programs write the text of an attribute."""


@pytest.mark.parametrize("form", FORMS)
def test_texts_and_numbers_of_any_type(tmp_path: Path, form: str) -> None:
    """Every text and number in a clip file, as programs other than ours write it."""
    body, path, write = body_of("rodent"), clip_file(tmp_path), FORMS[form]
    (expected,) = read_clips(path, body)
    with h5py.File(path, "r+") as file:
        for part, names in ((file, ("format", "body", "fingerprint")), (file["a"], TEXTS)):
            for name in names:
                part.attrs[name] = write(part.attrs[name])
        file.attrs["joint_names"] = np.array(body.joint_names, "S")[:, None]
        file.attrs["version"] = np.array([[1.0]])
        file.attrs["rate"] = 50
        file["a"].attrs["subject"] = h5py.Empty("S1")
    assert format_of(path) == "clips"
    assert motion_body(path) == "rodent"
    (found,) = read_clips(path, body)
    assert_same(dataclasses.asdict(found), dataclasses.asdict(expected))


@pytest.mark.parametrize(
    "value", [7, [b"a", b"b"], np.zeros(3), np.void(b"walk"), h5py.Empty("f4")]
)
def test_what_is_no_text_is_refused(tmp_path: Path, value: Any) -> None:
    path = clip_file(tmp_path)
    with h5py.File(path, "r+") as file:
        file["a"].attrs["label"] = value
    with pytest.raises(ClipError, match="the attribute 'label' of 'a' must be a text, got"):
        read_clips(path, body_of("rodent"))


def test_texts_that_are_not_utf8(tmp_path: Path) -> None:
    """They can be printed and written again; names of clips must be what they are."""
    path, body = clip_file(tmp_path), body_of("rodent")
    with h5py.File(path, "r+") as file:
        file["a"].attrs["label"] = np.bytes_(b"tr\xe4ge")
        file["a"].attrs.create("source", b"tr\xe4ge", dtype=h5py.string_dtype())
    (clip,) = read_clips(path, body)
    assert clip.label == clip.source == "tr\ufffdge"
    write_clips(path, [clip], body)
    with h5py.File(path, "r+") as file:
        file.move("a", b"\xff")
    with pytest.raises(ClipError, match="a member whose name is not UTF-8"):
        read_clips(path, body)


def test_dm_control_numbers_as_arrays(tmp_path: Path) -> None:
    body, path = body_of("rodent"), tmp_path / "mocap.h5"
    write_dm_control(path, body, {"a": motion(body, 5)}, dt=0.02)
    with h5py.File(path, "r+") as file:
        file["a"].attrs.update(dt=np.array([[0.02]]), num_steps=np.array([5]))
    (clip,) = read_motion(path, body)
    assert len(clip) == 5


texts = st.text(st.characters(exclude_categories=["C"]), max_size=20)
names = texts.filter(lambda n: n.strip(".") != "" and "/" not in n)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(BODIES),
    specs=st.lists(
        st.tuples(names, st.lists(texts, min_size=5, max_size=5), st.integers(2, 30)),
        min_size=1, max_size=4, unique_by=lambda c: c[0],
    ),
    split=st.sampled_from(["train", "test", "extra"]),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_round_trip(tmp_path_factory: Any, name: str, specs: Any, split: str, seed: int) -> None:
    """Every text and every bit of both bodies' clips, written from an iterator."""
    body, path = body_of(name), tmp_path_factory.mktemp("trip") / "clips.h5"
    clips = [
        Clip(own, motion(body, frames, seed + i).astype(np.float32), label, split, source, licence,
             subject, session)
        for i, (own, (label, source, licence, subject, session), frames) in enumerate(specs)
    ]  # fmt: skip
    write_clips(path, iter(clips), body)
    back = list(read_motion(path, body))
    assert len(back) == len(clips)
    for one, two in zip(clips, back, strict=True):
        assert_same(dataclasses.asdict(two), dataclasses.asdict(one))
    assert_same([c.name for c in read_clips(path, body)], [c.name for c in clips])


def test_writing_holds_one_clip_at_a_time(tmp_path: Path) -> None:
    """A clip that is written is let go of, and a late error leaves nothing."""
    body, most = body_of("rodent"), 0
    watched: list[weakref.ref[Clip]] = []

    def clips(last: str) -> Iterator[Clip]:
        nonlocal most
        for name in ("a", "b", "c", "d", last):
            clip = Clip(name, motion(body, 3).astype(np.float32), **TEXTS)
            watched.append(weakref.ref(clip))
            yield clip
            del clip
            gc.collect()
            most = max(most, sum(ref() is not None for ref in watched))

    write_clips(tmp_path / "clips.h5", clips("e"), body)
    assert most <= 1
    with pytest.raises(ClipError, match="'a' occurs twice"):
        write_clips(tmp_path / "other.h5", clips("a"), body)
    assert [p.name for p in tmp_path.iterdir()] == ["clips.h5"]
