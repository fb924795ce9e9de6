"""The worker of a run, which runs single episodes of a suite.

An episode depends only on the suite, the key, the policy and its id, not on the worker or on the
episodes before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vnl_envs.envs.core import Core, Step, draw
from vnl_envs.evaluation.evaluate import begin_episodes, episode_generators, run_episodes
from vnl_envs.evaluation.policies import FOLLOWING, Policy, make_policy
from vnl_envs.evaluation.remote import RemotePolicy
from vnl_envs.evaluation.simulations import Simulations
from vnl_envs.problems import Code, PolicyError, Problem, ScoringError
from vnl_envs.sandbox.client import PolicyProcess
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.suite import Spec, Suite
from vnl_envs.scoring.results.episodes import episode_result
from vnl_envs.scoring.results.files import NATIVE, stamps
from vnl_envs.scoring.run.journal import Record

MEASURED_STEPS = 25
"""Number of control steps in a measurement of speed."""

_ONLY = np.array([0])


@dataclass(frozen=True)
class Job:
    """The common settings of all workers of a run.

    Attributes:
        suite: suite of the episodes.
        key: key of the seeds.
        reference: one of `policies.NAMES`; None for an entrant's policies.
        policies: task id -> bytes of the ONNX file.
        isolated: whether policies run in the sandbox.
        engine: "native", or an implementation of MJX.
        fresh: whether every episode gets a new policy process, which exposes policies that
            remember other episodes against the rules.
    """

    suite: Suite
    key: bytes
    reference: str | None
    policies: dict[str, bytes]
    isolated: bool
    engine: str
    fresh: bool = False


def cell_of(spec: Spec) -> tuple[str, str, str]:
    """The task, tier and cell id of an episode."""
    return spec.task, spec.tier, spec.cell.id


class Worker:
    """Answers the requests of a run.

    It keeps the simulation of the last cell and the entrant's policy of the last task. Simulations
    of measured cells are kept until they are run, as compiling one may take as long as running it.

    Args:
        job: job of the run.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._specs = {spec.id: spec for spec in job.suite.specs}
        self._simulation: tuple[tuple[str, str, str], Simulations] | None = None
        self._measured: dict[tuple[str, str, str], Simulations] = {}
        self._policy: tuple[str, Policy] | None = None
        self._opened = contextlib.ExitStack()

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, both JSON.

        Requests are {"run": episode id}, {"measure": episode id} and {"stamps": null}. Errors
        become the answer {"problems": [...]}.
        """
        ((name, argument),) = json.loads(request).items()
        try:
            return json.dumps(self._answer(name, argument)).encode()
        except ScoringError as error:
            problems = error.problems
        except Exception as error:
            if os.environ.get("VNL_ENVS_DEBUG"):
                traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            problems = (Problem(Code.INTERNAL, str(argument), message),)
        return json.dumps({"problems": problems}).encode()

    def _answer(self, name: str, argument: Any) -> dict[str, Any]:
        if name == "stamps":
            return stamps(self._job.engine)
        return self.measure(argument) if name == "measure" else self.run(argument).plain()

    def run(self, spec_id: str) -> Record:
        """Run an episode.

        Raises:
            ScoringError: the `env_hash` of the cell's task differs from that in the suite.
        """
        begin = time.perf_counter()
        spec = self._specs[spec_id]
        simulation = self._simulation_of(spec)
        policy = _Clocked(self._policy_of(spec.task, simulation))
        ready = time.perf_counter()
        (finished,) = run_episodes(simulation, policy, [spec.seed(self._job.key)])
        episode = episode_result(spec, finished, policy.clipped)
        note = ""
        if finished.failure is not None:
            note = finished.failure.message
            # The number of steps before a failure may depend on a clock, and a result must not.
            episode = episode.model_copy(update={"steps": 0, "clipped": 0, "metrics": {}})
        done = time.perf_counter()
        return Record(episode, note, done - begin, policy.seconds, done - ready - policy.seconds)

    def play(self, spec_id: str) -> Iterator[tuple[Core, Step | None]]:
        """Yield the simulation of an episode for drawing: at its start (None) and after each step.

        It ends early if the policy fails. It needs the native engine.

        Raises:
            ScoringError: see `run`.
        """
        spec = self._specs[spec_id]
        core = self._simulation_of(spec)
        assert isinstance(core, Core)
        policy = self._policy_of(spec.task, core)
        with contextlib.suppress(PolicyError):
            begin_episodes(core, policy, _ONLY, [spec.seed(self._job.key)])
            yield core, None
            over = False
            while not over:
                result = core.step(policy.act(core.observation))
                over = bool(result.terminated[0] or result.truncated[0])
                yield core, result

    def measure(self, spec_id: str) -> dict[str, Any]:
        """Measure the speed in the cell of an episode.

        Returns:
            "task" id, "build" time until the end of the first step, s, "step" time of a later
            step, s, and mean number of control "steps" of an episode that nothing ends early.
        """
        spec = self._specs[spec_id]
        simulation = self._simulation_of(spec)
        # The clock starts here, as only the first cell of a body in a process takes a second more.
        begin = time.perf_counter()
        policy = self._policy_of(spec.task, simulation)
        self._measured[cell_of(spec)] = simulation
        cell = [other for other in self._specs.values() if cell_of(other) == cell_of(spec)]
        task = simulation.task
        rows = draw(task, [episode_generators(s.seed(self._job.key))[0] for s in cell])
        steps = np.broadcast_to(task.available(rows), len(cell))
        moments: list[float] = []
        with contextlib.suppress(PolicyError):
            begin_episodes(simulation, policy, _ONLY, [spec.seed(self._job.key)])
            while len(moments) <= MEASURED_STEPS:
                simulation.step(policy.act(simulation.observation))
                moments.append(time.perf_counter())
        built = moments[0] if moments else time.perf_counter()
        return {
            "task": spec.task,
            "build": built - begin,
            "step": (moments[-1] - built) / (len(moments) - 1) if len(moments) > 1 else 0.0,
            "steps": float(steps.mean()),
        }

    def close(self) -> None:
        """End the policy's process."""
        self._end_policy()

    def _end_policy(self) -> None:
        self._opened.close()
        self._policy = None

    def _simulation_of(self, spec: Spec) -> Simulations:
        """The simulation of a cell, made if necessary."""
        cell = cell_of(spec)
        if self._simulation is None or self._simulation[0] != cell:
            self._simulation = cell, self._measured.pop(cell, None) or self._make_simulation(spec)
        return self._simulation[1]

    def _make_simulation(self, spec: Spec) -> Simulations:
        task = suites.make_cell(spec.task, spec.cell)
        if self._job.engine == NATIVE:
            return Core(task, 1, 1)
        from vnl_envs.envs.functional import make_functional
        from vnl_envs.scoring.run.crosscheck import CrossSimulation

        return CrossSimulation(make_functional(spec.task, self._job.engine, **spec.cell.options))

    def _policy_of(self, task: str, simulation: Simulations) -> Policy:
        """The policy of a task. The process of an entrant is reused for episodes of one task."""
        # References may use the simulation, which is another one in the next cell.
        renew = self._job.fresh or self._job.reference is not None
        if self._policy is None or self._policy[0] != task or renew:
            self._end_policy()
            self._policy = task, self._make_policy(task, simulation)
        return self._policy[1]

    def _make_policy(self, task: str, simulation: Simulations) -> Policy:
        name = self._job.reference
        if name is not None:
            no_reference = name in FOLLOWING and simulation.reference_action("track") is None
            return make_policy("zero" if no_reference else name, simulation)
        with contextlib.ExitStack() as opened:
            # An unnamed file disappears even if this process is killed.
            file = opened.enter_context(tempfile.TemporaryFile())
            file.write(self._job.policies[task])
            file.flush()
            sizes = simulation.size, simulation.task.body.nu
            process = PolicyProcess(file, *sizes, self._job.isolated)
            opened.enter_context(process)
            self._opened = opened.pop_all()
        return RemotePolicy(process)


class _Clocked:
    """A policy with a clock.

    Args:
        policy: policy of one simulation.

    Attributes:
        seconds: time spent waiting for the policy, s.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.seconds = 0.0

    @property
    def clipped(self) -> int:
        """Number of action components out of range in this episode."""
        return self._policy.clipped if isinstance(self._policy, RemotePolicy) else 0

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """See `Policy`."""
        with self._timed():
            self._policy.begin(ids, generators)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """See `Policy`."""
        with self._timed():
            return self._policy.act(observation)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begin
