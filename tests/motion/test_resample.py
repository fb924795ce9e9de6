"""Resampling keeps what motion is made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vnl_envs.motion.clip import RATE, ClipError
from vnl_envs.motion.fitting.smoothing import low_pass
from vnl_envs.motion.resample import resample

rates = st.floats(5, 1000).filter(lambda rate: abs(rate - RATE) > 0.01)
seeds = st.integers(0, 2**32 - 1)


def steady(rate: float, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (T, 10) of constant velocities, the velocities, and the angular velocity."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / rate
    velocity, spin = rng.normal(size=10), rng.normal(size=3)
    qpos = rng.normal(size=10) + time * velocity
    # Less than half a turn between frames, else which way it turned cannot be known.
    spin *= min(1.0, 2.5 * rate / np.linalg.norm(spin))
    turn = Rotation.from_rotvec(time * spin) * Rotation.random(random_state=seed % 1000)
    qpos[:, 3:7] = turn.as_quat(scalar_first=True)
    # Files do not care for the sign.
    qpos[rng.random(frames) < 0.3, 3:7] *= -1
    return qpos, velocity, spin


@settings(deadline=None)
@given(rate=rates, frames=st.integers(2, 60), seed=seeds)
def test_constant_velocities_stay(rate: float, frames: int, seed: int) -> None:
    """Of positions, joints and orientation; from the first frame to the end of the recording."""
    qpos, velocity, spin = steady(rate, frames, seed)
    out = resample(qpos, rate)
    duration = (frames - 1) / rate
    assert 0 <= duration - (len(out) - 1) / RATE + 1e-6 <= 1 / RATE + 1e-6
    time = np.arange(len(out))[:, None] / RATE
    np.testing.assert_allclose(out[0, :3], qpos[0, :3], atol=1e-9)
    straight = [*range(3), *range(7, 10)]
    np.testing.assert_allclose(
        out[:, straight], (qpos[0] + time * velocity)[:, straight], atol=1e-6
    )
    turn = Rotation.from_quat(out[:, 3:7], scalar_first=True)
    wanted = Rotation.from_rotvec(time * spin) * Rotation.from_quat(qpos[0, 3:7], scalar_first=True)
    assert (turn * wanted.inv()).magnitude().max() < 1e-6


@settings(deadline=None)
@given(rate=rates, frames=st.integers(2, 60), seed=seeds)
def test_quaternions(rate: float, frames: int, seed: int) -> None:
    """Are of norm 1 and do not change sign."""
    out = resample(steady(rate, frames, seed)[0], rate)[:, 3:7]
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-9)
    assert (np.einsum("ti,ti->t", out[1:], out[:-1]) > -1e-9).all()


@settings(deadline=None)
@given(factor=st.integers(2, 8), frames=st.integers(4, 40), seed=seeds)
def test_given_frames_stay(factor: int, frames: int, seed: int) -> None:
    """Where new frames fall on given ones they are these."""
    qpos = np.random.default_rng(seed).normal(size=(frames, 12))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    joints = [*range(3), *range(7, 12)]
    slow = resample(qpos, RATE / factor)[::factor]
    np.testing.assert_allclose(slow[:, joints], qpos[:, joints], atol=1e-9)
    fast = resample(qpos, RATE * factor)
    np.testing.assert_allclose(fast[:, joints], qpos[::factor, joints], atol=1e-9)


def test_own_rate_is_left_alone() -> None:
    """Not a bit changes, and a rate that is 50 Hz but for rounding is 50 Hz."""
    qpos = steady(50, 9, 0)[0]
    for rate in (50, 50.0, np.float32(50), 1 / np.float64(np.float32(0.02))):
        assert resample(qpos, float(rate)) is qpos


def test_smooth_motion_is_followed() -> None:
    """From 30 Hz a swing of 2 Hz comes back; straight lines would miss it by 2 %."""
    time, fine = np.arange(61) / 30, np.arange(101) / RATE
    qpos = np.zeros((61, 8))
    qpos[:, 3] = 1
    qpos[:, 7] = np.sin(4 * np.pi * time)
    error = np.abs(resample(qpos, 30.0)[:, 7] - np.sin(4 * np.pi * fine))
    assert error.max() < 3e-3
    assert np.median(error) < 3e-4


@pytest.mark.parametrize("rate", [0, -50, 0.5, 1e6, np.nan, np.inf, "fast", None, True])
def test_bad_rates(rate: object) -> None:
    """Named, with the rates that there may be."""
    with pytest.raises(ClipError, match=r"rate.*10000.*Hz"):
        resample(steady(50, 5, 0)[0], rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda q: q[:1], "2 frames"),
        (lambda q: np.where(np.arange(10) == 8, np.nan, q), "finite"),
        (lambda q: q * (np.arange(10) < 3), "quaternions"),
    ],
)
def test_bad_poses(spoil: object, word: str) -> None:
    """What cannot be interpolated is refused."""
    with pytest.raises(ClipError, match=word):
        resample(spoil(steady(50, 5, 0)[0]), 30.0)  # type: ignore[operator]


@given(frames=st.integers(2, 40), sigma=st.floats(0.2, 6.0), seed=seeds)
def test_filters_leave_velocities_at_both_ends(frames: int, sigma: float, seed: int) -> None:
    """What moves steadily goes on so, however short, and no end stops it."""
    start, velocity = np.random.default_rng(seed).normal(size=(2, 3))
    path = start + np.arange(frames)[:, None] * velocity
    np.testing.assert_allclose(low_pass(path, sigma), path, atol=1e-9)


def test_filters_take_away_what_is_fast() -> None:
    """A wave of 10 frames falls by the Gaussian's gain, in the middle as at the ends."""
    wave = np.sin(2 * np.pi * np.arange(101) / 10)
    gain = np.exp(-((2 * np.pi * 2 / 10) ** 2) / 2)
    np.testing.assert_allclose(low_pass(wave, 2.0), gain * wave, atol=1e-3)
