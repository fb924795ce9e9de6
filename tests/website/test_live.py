"""The rat that is simulated in the page: its physics, observations and actions are the task's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from browsing import NARROW, Visit, browsing, visit

from vnl_envs.evaluation.play import Player
from vnl_envs.replays.folder import write_shared
from website import live

pytestmark = [
    browsing,
    pytest.mark.skipif(
        not live.MODULE.exists(), reason="npm ci && npm run build in website/wasm makes the module"
    ),
]

PUT = """([qpos, qvel, act, target, closest]) => {
  const { simulation } = livePage;
  simulation.data.qpos.set(qpos);
  simulation.data.qvel.set(qvel);
  simulation.data.act.set(act);
  simulation.data.qacc_warmstart.fill(0);
  simulation.mujoco.mj_kinematics(simulation.model, simulation.data);
  Object.assign(simulation, { target, closest });
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory, gl) -> Path:
    out = tmp_path_factory.mktemp("live")
    write_shared(out)
    live.write(out, ("../index.html", "Gallery"))
    return out


@pytest.fixture
def at(browser, pages) -> Iterator[Visit]:
    opened = visit(browser, pages.as_uri(), NARROW)
    opened.open(f"{live.NAME}.html")
    yield opened
    opened.page.context.close()
    assert opened.faults == []


def start(opened: Visit) -> None:
    """The simulation, which then stands still."""
    opened.page.click("#play")
    opened.page.wait_for_selector("#stage.drawn")
    opened.page.click("#play")


def states() -> Iterator[tuple[list[Any], Player]]:
    """Of the policy at work, each as the page takes it."""
    player = Player(live.TASK, str(live.POLICY), 0, {})
    for _ in range(4):
        for _ in range(60):
            player.step()
        data, carry = player.data, player.core.carry
        state = [data.qpos, data.qvel, data.act, carry["target"][0]]
        yield [*(part.tolist() for part in state), float(carry["closest"][0])], player


def test_the_page_observes_acts_and_steps_as_the_task(at):
    start(at)
    for state, player in states():
        at.page.evaluate(PUT, state)
        seen = at.page.evaluate("livePage.simulation.observation()")
        np.testing.assert_allclose(seen, player.core.observation[0], atol=1e-5)
        control = at.page.evaluate("livePage.simulation.act()")
        task = player.core.task
        action = player.policy.act(player.core.observation)
        np.testing.assert_allclose(control, task.body.control(action)[0], atol=1e-4)
        model, data = task.world.model, mujoco.MjData(task.world.model)
        data.qpos[:], data.qvel[:], data.act[:] = state[:3]
        data.ctrl[:] = control
        mujoco.mj_step(model, data, nstep=task.world.substeps)
        at.page.evaluate("control => livePage.simulation.step(control)", control)
        there = at.page.evaluate("Array.from(livePage.simulation.data.qpos)")
        np.testing.assert_allclose(there, data.qpos, atol=1e-9)


def test_the_rat_runs_to_where_the_reader_clicks(at):
    start(at)
    assert at.page.evaluate("document.documentElement.scrollWidth") == NARROW
    box = at.page.locator("#canvas").bounding_box()
    at.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"])
    left = at.page.evaluate("[livePage.simulation.away(), livePage.simulation.task.reach]")
    assert left[0] > left[1]
    # From where it stood at the click, which depends on the clock, the policy sometimes falls.
    arrived = at.page.evaluate(
        """() => {
          const { simulation } = livePage, target = [1, 0.5];
          simulation.time = 0;
          simulation.data.qpos.fill(0);
          simulation.aim(target);
          simulation.reset();
          for (let i = 0; i < 500 && simulation.target === target; i++) simulation.step();
          return simulation.target !== target;
        }"""
    )
    assert arrived


def test_keys_push_the_rat_and_it_stands_up_again(at):
    start(at)
    at.page.keyboard.press("p")
    assert at.page.evaluate("livePage.simulation.data.xfrc_applied.some(Boolean)")
    at.page.evaluate("for (let i = 0; i < 10; i++) livePage.simulation.step()")
    assert not at.page.evaluate("livePage.simulation.data.xfrc_applied.some(Boolean)")
    at.page.evaluate("livePage.simulation.data.qpos.set([NaN], 2)")
    at.page.evaluate("livePage.simulation.step()")
    assert at.page.evaluate("livePage.simulation.data.qpos.every(Number.isFinite)")
    at.page.evaluate("livePage.simulation.data.qpos.set([0.01], 2)")
    assert at.page.evaluate("livePage.simulation.fallen")
    at.page.keyboard.press("r")
    assert not at.page.evaluate("livePage.simulation.fallen")
