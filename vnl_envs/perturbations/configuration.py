"""The table of perturbations, and their settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vnl_envs.perturbations.kind import Kind, Setting
from vnl_envs.perturbations.kinds.action_delay import ActionDelay
from vnl_envs.perturbations.kinds.action_repeat import ActionRepeat
from vnl_envs.perturbations.kinds.friction import Friction
from vnl_envs.perturbations.kinds.gain import Gain
from vnl_envs.perturbations.kinds.gravity_tilt import GravityTilt
from vnl_envs.perturbations.kinds.limb_scale import LimbScale
from vnl_envs.perturbations.kinds.mass import Mass
from vnl_envs.perturbations.kinds.observation_noise import ObservationNoise
from vnl_envs.perturbations.kinds.push import Push, Pushes
from vnl_envs.tasks.task import Task


def _row(kind: type[Kind], name: str = "") -> Any:
    """The dataclass field for a setting of a kind; "" names its only setting."""
    (setting,) = (s for s in kind.settings if name in ("", s.name))
    metadata = {"kind": kind, "setting": setting}
    if isinstance(setting.off, dict):
        return dataclasses.field(default_factory=setting.off.copy, metadata=metadata)
    return dataclasses.field(default=setting.off, metadata=metadata)


@dataclass(frozen=True)
class Perturbations:
    """Settings of all perturbations. Everything is off by default.

    Raises:
        ValueError: a value is out of its bounds or of a wrong kind.
    """

    # Each row is a setting and its kind. New rows go to the end: episodes are drawn in this order,
    # and actions, forces and observations pass through the kinds in this order.
    mass: float = _row(Mass)
    friction: float = _row(Friction)
    gain: float = _row(Gain)
    limb_length: float = _row(LimbScale, "limb_length")
    limb_size: float = _row(LimbScale, "limb_size")
    gravity_tilt: float = _row(GravityTilt)
    push: Push | None = _row(Pushes)  # noqa: RUF009
    observation_noise: Mapping[str, float] = _row(ObservationNoise)
    action_delay: int = _row(ActionDelay)
    action_repeat: float = _row(ActionRepeat)
    torso_size: float = _row(LimbScale, "torso_size")
    per_limb: bool = _row(LimbScale, "per_limb")

    def __post_init__(self) -> None:
        for name, setting in settings().items():
            object.__setattr__(self, name, setting.check(name, getattr(self, name)))

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any] | Perturbations | None) -> Perturbations:
        """Make settings from a mapping whose keys are these attributes, for options and JSON.

        Raises:
            ValueError: a key is unknown (the message lists the known ones), or see the class.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        names = list(settings())
        if not isinstance(value, Mapping):
            raise ValueError(
                f"perturbations must be a mapping with keys among {names}, got {value!r}"
            )
        unknown = [k for k in value if k not in names]
        if unknown:
            raise ValueError(f"there are no perturbations {unknown}; there are {names}")
        return cls(**value)

    def active(self) -> tuple[str, ...]:
        """Names of the settings that are on."""
        return tuple(name for name, s in settings().items() if s.on(getattr(self, name)))

    def native_only(self) -> tuple[str, ...]:
        """Names of the settings that are on and that only the native engine simulates."""
        return tuple(name for name in self.active() if kinds()[name].native_only)

    def constants(self) -> dict[str, Any]:
        """The settings that the `env_hash` of a perturbed task covers: name -> plain value."""
        active = self.active()
        covered = [n for n, s in settings().items() if s.in_every_hash or n in active]
        values = dataclasses.asdict(self)
        return {name: values[name] for name in covered}

    def check_task(self, task: Task) -> None:
        """Check that a task has everything that the settings perturb.

        Raises:
            ValueError: the task does not have it.
        """
        for kind in dict.fromkeys(kinds().values()):
            kind.check_task(task, *self._values(kind))

    def of(self, task: Task) -> tuple[Kind, ...]:
        """The kinds that are on, made for a task.

        Raises:
            ValueError: the limbs or actuators of the task's body cannot be changed.
        """
        on = dict.fromkeys(kinds()[name] for name in self.active())
        return tuple(kind(task, *self._values(kind)) for kind in on)

    def _values(self, kind: type[Kind]) -> tuple[Any, ...]:
        return tuple(getattr(self, setting.name) for setting in kind.settings)


def settings() -> dict[str, Setting]:
    """All settings by name, in the order of the table."""
    return {f.name: f.metadata["setting"] for f in dataclasses.fields(Perturbations)}


def kinds() -> dict[str, type[Kind]]:
    """The kind of each setting, by the setting's name."""
    return {f.name: f.metadata["kind"] for f in dataclasses.fields(Perturbations)}


def option_text() -> str:
    """The description of a task's option "perturbations", one line."""
    return (
        'what differs by episode, a mapping such as {"mass": 0.2}: '
        f"{', '.join(settings())}; see docs/perturbations.md"
    )


def markdown_table() -> str:
    """The table of settings, values, descriptions and engines for `docs/perturbations.md`."""
    lines = ["| name | value | in every episode | engines |", "|---|---|---|---|"]
    for name, setting in settings().items():
        engines = "native" if kinds()[name].native_only else "all"
        lines.append(f"| `{name}` | {setting.values} | {setting.text} | {engines} |")
    return "\n".join(lines) + "\n"


def _attributes() -> str:
    """The attributes of `Perturbations` for its docstring."""
    lines = (f"    {name}: {s.values}; {s.text}." for name, s in settings().items())
    return "\n".join(["Attributes:", *lines])


Perturbations.__doc__ = f"{inspect.cleandoc(Perturbations.__doc__ or '')}\n\n{_attributes()}\n"
