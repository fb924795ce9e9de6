"""Reports on clips: each measure finds exactly the fault that a clip was given."""

import functools
import html.parser
import io
import json
import re
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from rich.console import Console
from scipy.spatial.transform import Rotation

from vnl_envs.motion.checking import ground, series
from vnl_envs.motion.checking.check import FIGURES, check_clips
from vnl_envs.motion.checking.dynamics import (
    actuator_loads,
    force_range,
    root_wrench,
    unsupported_wrench,
)
from vnl_envs.motion.checking.faults import SPIKES, Fault
from vnl_envs.motion.checking.ground import (
    friction_cone,
    limits,
    point_geoms,
    soles,
    standing_length,
)
from vnl_envs.motion.checking.report import frames_of, page, record, summary
from vnl_envs.motion.clip import RATE, Clip, ClipError
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.kinematics import derive_reference
from vnl_envs.testing.environments import task_of
from vnl_envs.utils.resources import packaged

BODIES = ("rodent", "humanoid")
# `vnl_envs/data/clips/README.md` has what is wrong with it.


@functools.lru_cache
def body_of(name):
    return task_of(f"vnl/{name.capitalize()}Imitation-v0").body


@functools.lru_cache
def embedded(name):
    return check_clips(load_clips(body_of(name)), body_of(name))


def clip_of(qpos, name="made"):
    return Clip(name, np.asarray(qpos, np.float32), "walk", "train", "a test", "CC0-1.0")


def real(name, clip):
    """Positions of an embedded clip, to be spoilt."""
    return load_clips(body_of(name), [clip])[0].qpos.astype(float)


def statue(name, frames=60):
    """The standing pose, with the lowest point on the ground."""
    body = body_of(name)
    qpos = np.tile(body.standing_qpos, (frames, 1))
    qpos[:, 2] -= derive_reference([clip_of(qpos)], body).clearance[0]
    return qpos


def report(name, qpos):
    return check_clips([clip_of(qpos)], body_of(name))[0]


def faults(found, kind):
    return [fault for fault in found.faults if fault.kind == kind]


# Measures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_joint_limit_hits_name_joint_frames_and_excess(name):
    qpos, body = real(name, "stand"), body_of(name)
    qpos[100:110, 7 + 5] = body.joint_range[5, 1] + 0.05
    found = report(name, qpos)
    (fault,) = faults(found, "joint limit")
    assert (fault.where, fault.spans) == (body.joint_names[5], ((100, 109),))
    assert fault.worst == pytest.approx(0.05, abs=1e-5)
    assert found.figures["limit_frames"] == 10
    assert found.verdict != "ok"


@pytest.mark.parametrize("name", BODIES)
def test_a_joint_that_jumps_for_a_frame_is_a_spike(name):
    qpos, body = real(name, "walk"), body_of(name)
    qpos[150, 7 + 3] += 1.0 if name == "humanoid" else 2.0
    found = report(name, qpos)
    (speed,), (acceleration,) = faults(found, "joint speed"), faults(found, "joint acceleration")
    assert (speed.where, speed.spans) == (body.joint_names[3], ((150, 151),))
    assert (acceleration.where, acceleration.frame) == (body.joint_names[3], 150)
    assert found.verdict != "ok"


@pytest.mark.parametrize("name", BODIES)
def test_a_root_that_jumps_is_a_spike(name):
    qpos = real(name, "walk")
    qpos[120:, 0] += 0.5
    qpos[200:, 3:7] = (
        Rotation.from_euler("z", 2.0) * Rotation.from_quat(qpos[200:, 3:7], scalar_first=True)
    ).as_quat(scalar_first=True)
    found = report(name, qpos)
    assert faults(found, "root speed")[0].spans == ((120, 120),)
    assert faults(found, "turn speed")[0].spans == ((200, 200),)
    assert faults(found, "turn speed")[0].worst == pytest.approx(2.0 * RATE, rel=0.05)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_everywhere_too_fast_does_not_hide_its_spikes(name):
    rng = np.random.default_rng(0)
    qpos = statue(name)
    qpos[:, 7:] += rng.uniform(-4, 4, qpos[:, 7:].shape)
    assert report(name, qpos).figures["spikes"] > 0.9


@pytest.mark.parametrize("name", BODIES)
def test_sunk_frames_and_their_depth(name):
    qpos = statue(name)
    qpos[20:30, 2] -= 0.010
    found = report(name, qpos)
    (fault,) = faults(found, "sunk")
    assert (fault.spans, fault.unit) == (((20, 29),), "mm")
    assert fault.worst == pytest.approx(10, abs=0.01)
    assert found.figures["depth"] == pytest.approx(10, abs=0.01)
    assert found.verdict != "ok"


@pytest.mark.parametrize("name", BODIES)
def test_a_lifted_body_floats(name):
    qpos = statue(name)
    qpos[:, 2] += 0.020
    found = report(name, qpos)
    assert faults(found, "floating")[0].spans == ((0, len(qpos) - 1),)
    assert found.figures["floating"] == 1
    assert found.figures["residual"] == pytest.approx(1, abs=1e-5)
    assert found.verdict == "bad"


@pytest.mark.parametrize("name", BODIES)
def test_a_jump_does_not_float_but_hanging_in_the_air_does(name):
    up, flight = 20, 21
    time = np.arange(flight) / RATE
    jump = 9.81 / 2 * time * (time[-1] - time)
    flying = slice(up, up + flight)
    qpos = statue(name)
    qpos[flying, 2] += jump
    found = report(name, qpos)
    assert not faults(found, "floating")
    inside = slice(up + 2, up + flight - 2)
    np.testing.assert_allclose(found.series.residual[inside], 0, atol=1e-3)

    hanging = statue(name)
    hanging[flying, 2] += np.minimum(jump, 0.5 * jump.max())
    spans = faults(report(name, hanging), "floating")[0].spans
    assert any(first <= up + flight // 2 <= last for first, last in spans)


@pytest.mark.parametrize("name", BODIES)
def test_feet_that_slide_with_the_body(name):
    body, way = body_of(name), 0.001
    qpos = statue(name)
    qpos[20:41, 0] += way * np.arange(21)
    qpos[41:, 0] += way * 20
    found = report(name, qpos)
    moving = found.series.slide[20:40]
    assert found.series.slide.sum() == pytest.approx(moving.sum(), abs=1e-6)
    standing = found.series.height[0] < limits(body).near
    np.testing.assert_allclose(moving[:, standing], way, atol=1e-6)
    expected = 20 * way * standing.mean()
    assert found.figures["slide"] == pytest.approx(1e3 * expected, abs=1e-3)
    assert found.figures["slide_ratio"] == pytest.approx(
        expected / max(20 * way, standing_length(body)), rel=1e-3
    )


@pytest.mark.parametrize("name", BODIES)
def test_a_statue_that_is_pushed_along_fast_slides_and_is_named(name):
    qpos = statue(name)
    qpos[:, 0] += 0.02 * np.arange(len(qpos))
    found = report(name, qpos)
    assert found.figures["slide_ratio"] > 0.9
    assert found.verdict == "bad"
    assert {fault.where for fault in faults(found, "sliding")} <= set(found.series.names)
    assert faults(found, "sliding")[0].worst == pytest.approx(0.02 * RATE, rel=1e-3)


@pytest.mark.parametrize("name", BODIES)
def test_rolling_is_no_slip_and_turning_on_the_spot_is(name):
    body, angle = body_of(name), 0.05
    qpos = statue(name, 3)
    points = soles(derive_reference([clip_of(qpos)], body), body)
    column = int(points.height[0].argmin())
    radius = point_geoms(body)[2][column]
    centre = points.points[0, column] + [0, 0, radius]
    turn = Rotation.from_euler("y", angle)
    for way, expected in ((radius * angle, 0.0), (0.0, -radius * angle)):
        moved = qpos.copy()
        moved[1:, :3] = centre + turn.apply(qpos[1:, :3] - centre) + [way, 0, 0]
        pose = turn * Rotation.from_quat(qpos[1:, 3:7], scalar_first=True)
        moved[1:, 3:7] = pose.as_quat(scalar_first=True)
        # Positions of a clip are float32.
        slip = soles(derive_reference([clip_of(moved)], body), body).slip[0, column]
        np.testing.assert_allclose(slip, [expected, 0], atol=0.002 * radius + 2e-7)


def test_norms_and_signs_of_quaternions_are_seen_before_they_are_normalised():
    qpos = real("rodent", "walk")
    qpos[40, 3:7] *= 1.0005
    qpos[100:, 3:7] *= -1
    found = report("rodent", qpos)
    assert found.figures["quaternion_error"] == pytest.approx(5e-4, rel=1e-3)
    assert found.figures["sign_flips"] == 1
    assert found.verdict == "suspicious"
    assert not [fault for fault in found.faults if fault.kind in SPIKES]


@pytest.mark.parametrize("name", BODIES)
def test_frames_that_repeat(name):
    qpos = real(name, "walk")
    qpos[100:120] = qpos[99]
    (fault,) = faults(report(name, qpos), "repeated")
    assert (fault.spans, fault.worst, fault.frame) == (((100, 119),), 20, 119)


def test_a_clip_that_does_not_fit_is_refused():
    with pytest.raises(ClipError, match="qpos must be"):
        check_clips([clip_of(np.zeros((5, 3)))], body_of("rodent"))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("frames", [2, 3, 5])
def test_the_shortest_clips_have_reports(name, frames):
    found = report(name, statue(name, frames))
    assert found.frames == frames
    assert np.isfinite(list(found.figures.values())).all()


@pytest.mark.parametrize("name", BODIES)
def test_long_clips_are_measured_in_parts_with_the_same_result(name, monkeypatch):
    whole = embedded(name)[2]
    monkeypatch.setattr(series, "_CHUNK", 64)
    parts = check_clips([load_clips(body_of(name))[2]], body_of(name))[0]
    assert parts.verdict == whole.verdict
    for key, value in vars(whole.series).items():
        if key != "names":
            np.testing.assert_allclose(getattr(parts.series, key), value, atol=1e-5, err_msg=key)
    assert parts.figures == pytest.approx(whole.figures, rel=1e-4, abs=1e-5)


def test_other_bodies_have_limits_by_dynamic_similarity(monkeypatch):
    rat = limits(body_of("rodent"))
    monkeypatch.setattr(ground, "standing_length", lambda body: 4 * 0.063)
    larger = limits(body_of("rodent"))
    assert larger.near == pytest.approx(4 * rat.near)
    assert larger.root_speed == pytest.approx(2 * rat.root_speed)
    assert larger.joint_speed == pytest.approx(rat.joint_speed / 2)
    assert larger.root_acceleration == rat.root_acceleration


# Mechanics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_rest_needs_the_weight_and_free_fall_needs_nothing(name):
    body, qpos = body_of(name), statue(name)
    wrench = root_wrench(derive_reference([clip_of(qpos)], body), body)
    np.testing.assert_allclose(wrench, np.tile([0, 0, 1, 0, 0, 0], (len(qpos), 1)), atol=1e-6)
    qpos[:, 2] += 10 - 9.81 / 2 * (np.arange(len(qpos)) / RATE) ** 2
    wrench = root_wrench(derive_reference([clip_of(qpos)], body), body)
    # Heights of 10 m in float32 are known to a micrometre.
    np.testing.assert_allclose(wrench, 0, atol=1e-3)


@pytest.mark.parametrize("name", BODIES)
def test_root_wrench_is_that_of_inverse_dynamics(name):
    body = body_of(name)
    reference = derive_reference(load_clips(body, ["walk"]), body)
    wrench = root_wrench(reference, body)
    model, data = body.model, mujoco.MjData(body.model)
    acceleration = np.gradient(reference.qvel, 1 / RATE, axis=0)
    for frame in (20, 77, 140):
        data.qpos[:], data.qvel[:] = reference.qpos[frame], reference.qvel[frame]
        data.qacc[:] = acceleration[frame]
        mujoco.mj_inverse(model, data)
        contacts = np.zeros(model.nv)
        mujoco.mj_mulJacTVec(model, data, contacts[:], data.efc_force[: data.nefc])
        force = (data.qfrc_inverse + contacts)[:3] / (body.mass.sum() * 9.81)
        np.testing.assert_allclose(wrench[frame, :3], force, atol=1e-9)


@pytest.mark.parametrize("name", BODIES)
def test_moment_is_the_change_of_angular_momentum(name):
    body = body_of(name)
    # Slow sines, so that differences of 50 frames per second are exact enough.
    qpos = statue(name, 150)
    phase = 2 * np.pi * 0.5 * np.arange(150)[:, None] / RATE + np.arange(body.nq - 7)
    qpos[:, 7:] += 0.3 * np.sin(phase)
    turn = Rotation.from_euler("xyz", 0.5 * np.sin(phase[:, [0, 2, 4]]))
    pose = turn * Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
    qpos[:, 3:7] = pose.as_quat(scalar_first=True)
    reference = derive_reference([clip_of(qpos)], body)
    model, data = body.model, mujoco.MjData(body.model)
    momentum = np.empty((len(reference.qpos), 3))
    for i, (qpos, qvel) in enumerate(zip(reference.qpos, reference.qvel, strict=True)):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        momentum[i] = data.subtree_angmom[body.bodies.start]
    unit = body.mass.sum() * 9.81 * standing_length(body)
    expected = np.gradient(momentum, 1 / RATE, axis=0)[5:-5] / unit
    moment = root_wrench(reference, body)[5:-5, 3:]
    np.testing.assert_allclose(moment, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("name", BODIES)
def test_forces_of_contacts_have_the_friction_that_the_engine_gives_them(name):
    body = body_of(name)
    data = mujoco.MjData(body.model)
    data.qpos[:] = statue(name)[0]
    # So deep that every contact geom touches.
    data.qpos[2] -= 1.5 * standing_length(body)
    mujoco.mj_forward(body.model, data)
    friction = {geom: c.friction[0] for c in data.contact for geom in c.geom}
    ids = point_geoms(body)[0] + body.geoms.start
    assert set(ids) <= set(friction)
    cone = friction_cone(body)
    np.testing.assert_array_equal(cone[..., 2], 1)
    size = np.linalg.norm(cone[..., :2], axis=-1)
    np.testing.assert_allclose(size, np.repeat([[friction[i]] for i in ids], 8, axis=1))


@pytest.mark.parametrize("name", BODIES)
def test_contacts_carry_a_standing_body_and_do_not_pull(name):
    body = body_of(name)

    def left(qpos):
        return unsupported_wrench(derive_reference([clip_of(qpos)], body), body)

    np.testing.assert_allclose(left(real(name, "stand")), 0, atol=0.01)
    pulled = statue(name)
    pulled[:, 2] -= 2 * 9.81 / 2 * (np.arange(len(pulled)) / RATE) ** 2
    np.testing.assert_allclose(left(pulled)[10:-10], 1, atol=0.01)


@pytest.mark.parametrize("name", BODIES)
def test_actuators_and_the_ground_carry_a_resting_body_together(name):
    """A statue is in reach of its actuators; off the ground they carry its limbs' weight alone."""
    body = body_of(name)
    reference = derive_reference([clip_of(statue(name, 8))], body)
    loads = actuator_loads(reference, body)
    np.testing.assert_array_equal(loads.deficit, 0)
    # With the feet off the ground nothing but gravity bends the joints.
    hanging = statue(name, 8)
    hanging[:, 2] += 1.0
    free = actuator_loads(derive_reference([clip_of(hanging)], body), body)
    data = mujoco.MjData(body.model)
    data.qpos[:] = hanging[0]
    mujoco.mj_forward(body.model, data)
    moment = np.zeros((body.model.nu, body.model.nv))
    mujoco.mju_sparse2dense(
        moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
    )
    driven = np.abs(moment[:, 6:]).sum(axis=0) > 0
    alone = np.abs(moment[:, 6:]).sum(axis=1)[:, None] == np.abs(moment[:, 6:])
    joint, actuator = np.nonzero((alone & driven).T & (moment[:, 6:] != 0).T)
    needed = (data.qfrc_bias - data.qfrc_passive)[6:]
    np.testing.assert_allclose(
        free.force[4, actuator] * moment[actuator, 6 + joint], needed[joint], atol=1e-6
    )
    assert np.abs(free.force - loads.force).max() > 0


def test_an_actuator_that_is_asked_for_too_much_is_named():
    """An elbow that is shaken faster than its servo can, and the frames in which it is."""
    body, name = body_of("humanoid"), "lradiusrx"
    joint = body.joint_names.index(name)
    qpos = statue("humanoid", 90)
    time = (np.arange(90) / RATE)[30:60]
    qpos[30:60, 7 + joint] += 0.6 * np.sin(2 * np.pi * 5 * (time - time[0])) ** 3
    found = report("humanoid", qpos)
    named = faults(found, "overload")
    assert named[0].where == name
    assert all(25 <= first <= last <= 65 for first, last in named[0].spans)
    low, high = force_range(body)
    actuator = body.actuator_names.index(name)
    loads = actuator_loads(derive_reference([clip_of(qpos)], body), body)
    peak = np.abs(loads.force[:, actuator]).max()
    assert named[0].worst == pytest.approx(peak - high[actuator], rel=1e-4)
    assert found.figures["overloaded"] == pytest.approx((loads.deficit > 0).any(axis=1).mean())
    assert low[actuator] == -high[actuator]


# The ends of clips --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("end", ["start", "end"])
def test_a_motion_that_is_stopped_at_an_end_is_seen(name, end):
    """As filters that reflect evenly do: the walk stands for its last or first frames."""
    qpos = real(name, "walk")[40:-40]
    steady = report(name, qpos).figures
    if end == "end":
        qpos[-4:, 0] = qpos[-4, 0]
    else:
        qpos[:4, 0] = qpos[3, 0]
    found = report(name, qpos).figures
    assert found[f"{end}_acceleration"] > 2 * steady[f"{end}_acceleration"]
    assert found["abrupt"] > 2 > steady["abrupt"]
    other = {"start": "end", "end": "start"}[end]
    assert found[f"{other}_acceleration"] == pytest.approx(steady[f"{other}_acceleration"])


# The clips that ship ------------------------------------------------------------------------------


DEEPEST = {"rodent": 2.0, "humanoid": 5.0}
"""Of contact geoms of embedded clips under the ground, mm."""
# Labels of the humanoid's that ask for more than contacts give, see the README of the clips.
SUSPICIOUS = ("run", "jump", "spin", "kick", "punch", "flip")


@pytest.mark.parametrize("name", BODIES)
def test_embedded_clips_are_good(name):
    for found in embedded(name):
        assert found.figures["limit_frames"] == 0, found.name
        assert found.figures["depth"] <= DEEPEST[name], found.name
        assert found.figures["slide_ratio"] <= 0.05, found.name
        assert found.figures["duration"] >= 3.0, found.name
        if name == "rodent" or (found.label not in SUSPICIOUS and found.split != "extra"):
            assert found.verdict == "ok", (found.name, found.reasons)
        if found.split != "extra":
            assert found.verdict != "bad", (found.name, found.reasons)


@pytest.mark.parametrize("name", BODIES)
def test_the_embedded_repertoire(name):
    found = embedded(name)
    assert len(found) >= 16
    assert len({report.label for report in found if report.split != "extra"}) >= 6
    assert packaged("clips", f"{name}.h5").stat().st_size < 5e6


def test_the_committed_report_is_that_of_the_committed_clips():
    committed = json.loads(packaged("clips", "check.json").read_text())
    now = record([*embedded("rodent"), *embedded("humanoid")])
    assert committed["limits"] == now["limits"]
    assert committed["figures"] == now["figures"]
    for old, new in zip(committed["clips"], now["clips"], strict=True):
        assert (old["name"], old["verdict"]) == (new["name"], new["verdict"])
        assert old["figures"] == pytest.approx(new["figures"], rel=1e-2, abs=1e-3)


# Reports ------------------------------------------------------------------------------------------

HOSTILE = '<script>alert("x")</script>[red] $\\frac{1}{0}$'


@pytest.fixture(scope="module")
def reports():
    good = clip_of(real("rodent", "walk"), "good")
    spoilt = real("rodent", "walk")
    spoilt[50, 8:20] += 3
    spoilt[100:130, 2] -= 0.01
    spoilt[160:200, 2] += 0.05
    bad = replace(clip_of(spoilt, HOSTILE.replace("/", "")), label=HOSTILE, source=HOSTILE)
    return check_clips([good, bad], body_of("rodent"))


def test_record_has_a_stable_form(reports):
    found = json.loads(json.dumps(record(reports), allow_nan=False))
    assert set(found) == {"format", "version", "rate", "figures", "limits", "clips"}
    assert (found["format"], found["version"]) == ("vnl_envs-check", 1)
    assert set(found["figures"]) == set(FIGURES)
    assert set(found["figures"]["depth"]) == {"unit", "text", "suspicious", "bad"}
    assert found["limits"]["rodent"]["joint_speed"] == {"value": 60.0, "unit": "rad/s"}
    for clip in found["clips"]:
        assert set(clip) == {
            "name", "label", "split", "body", "frames", "verdict", "reasons", "figures", "faults"
        }  # fmt: skip
        assert set(clip["figures"]) == set(FIGURES)
        for fault in clip["faults"]:
            assert set(fault) == {"kind", "where", "worst", "unit", "frame", "runs", "frames"}
    assert [clip["verdict"] for clip in found["clips"]] == ["ok", "bad"]


def test_summary_fits_a_terminal_and_takes_names_as_they_are(reports):
    console = Console(width=110, file=io.StringIO(), record=True)
    console.print(summary(reports))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 110
    assert "[red]" in text
    assert "sunk: frames 100-129" in text


def test_many_runs_of_frames_are_counted():
    many = Fault("sunk", "", tuple((i, i) for i in range(0, 40, 2)), 3.0, "mm", 4)
    assert frames_of(many) == "0, 2, 4, 6, 8, 10 and 14 more"


class Page(html.parser.HTMLParser):
    """Collects what is open, what is loaded and which elements there are."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action")]
        self.handlers = [k for k, _ in attributes if k.startswith("on")]
        assert not self.handlers
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_one_file_that_loads_and_runs_nothing(reports):
    text = page(reports)
    parsed = Page()
    parsed.feed(text)
    assert not parsed.open
    assert "script" not in parsed.tags
    assert "svg" in parsed.tags
    assert "&lt;script&gt;" in text
    assert all(link.startswith(("#", "data:image/")) for link in parsed.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert len(text) < 200_000 * len(reports)
    for fault in reports[1].faults:
        assert frames_of(fault) in text


def test_page_draws_the_worst_of_many_clips(reports, monkeypatch):
    good, bad = reports
    most = 3
    monkeypatch.setattr("vnl_envs.motion.checking.report.MOST_DRAWN", most)
    text = page([*[replace(good, name=f"clip {i}") for i in range(most)], bad])
    assert text.count("<section") == most + 1
    assert f'id="clip-{most}"' in text
    assert f"clip {most - 1}" in text
    assert f'id="clip-{most - 1}"' not in text
