"""Marker sets: positions of an animal's keypoints on its body."""

from __future__ import annotations

from dataclasses import dataclass

from vnl_envs.bodies.model import BodyModel


@dataclass(frozen=True)
class Marker:
    """One keypoint that is tracked on an animal.

    Attributes:
        name: name of the keypoint.
        body: body to which it is attached.
        offset: its position in the body's frame, m: the initial guess of fits.
        trunk: whether it belongs to the trunk, by which a fit first places the root. A set has at
            least 3 trunk markers that are not on one line.
        firm: whether its guess is trusted more than that of other markers.
    """

    name: str
    body: str
    offset: tuple[float, float, float]
    trunk: bool = False
    firm: bool = False


def _rodent() -> tuple[Marker, ...]:
    """The 23 keypoints of DANNCE's rats, in the order of its files.

    Names, order, bodies, trunk and firm keypoints: stac-mjx, `configs/model/rodent.yaml` (KP_NAMES,
    KEYPOINT_MODEL_PAIRS, TRUNK_OPTIMIZATION_KEYPOINTS, SITES_TO_REGULARIZE). Offsets, for the rat
    scaled by 0.9: those of its demo's published fit, both sides averaged, to 0.1 mm; the
    configuration's own start nine of the keypoints in their body's origin.
    """
    spine = [
        Marker("Snout", "skull", (0.0361, 0.0, -0.0028)),
        *_pair("Ear{}", "skull", (-0.0067, 0.0150, 0.0027)),
        Marker("SpineF", "vertebra_cervical_5", (-0.0073, 0.0, 0.0067), trunk=True, firm=True),
        Marker("SpineM", "vertebra_1", (-0.0039, 0.0, 0.0054), trunk=True, firm=True),
        Marker("SpineL", "pelvis", (-0.0070, 0.0, 0.0099), trunk=True, firm=True),
        Marker("TailBase", "pelvis", (-0.0322, 0.0, -0.0157), trunk=True),
    ]
    fore = [
        _pair("Shoulder{}", "scapula_{}", (0.0197, 0.0150, -0.0133), trunk=True),
        _pair("Elbow{}", "upper_arm_{}", (-0.0161, 0.0100, -0.0167)),
        _pair("Wrist{}", "lower_arm_{}", (0.0095, 0.0052, -0.0138)),
        _pair("Hand{}", "hand_{}", (0.0008, -0.0007, -0.0072), firm=True),
    ]
    hind = [
        _pair("Hip{}", "pelvis", (-0.0007, 0.0174, -0.0034), trunk=True),
        _pair("Knee{}", "upper_leg_{}", (0.0118, 0.0148, -0.0232)),
        _pair("Ankle{}", "lower_leg_{}", (-0.0272, -0.0062, -0.0167)),
        _pair("Foot{}", "foot_{}", (0.0202, 0.0088, -0.0031)),
    ]
    limbs = [joint[side] for limb in (fore, hind) for side in (0, 1) for joint in limb]
    return (*spine, *limbs)


def _pair(
    name: str, body: str, left: tuple[float, float, float], trunk: bool = False, firm: bool = False
) -> tuple[Marker, Marker]:
    """A marker on the left and its mirror image on the right."""
    right = (left[0], -left[1], left[2])
    return (
        Marker(name.format("L"), body.format("L"), left, trunk, firm),
        Marker(name.format("R"), body.format("R"), right, trunk, firm),
    )


MARKER_SETS: dict[str, tuple[Marker, ...]] = {"rodent": _rodent()}
"""Marker sets by the name of the body; add your own animal's here."""


def marker_set(body: BodyModel) -> tuple[Marker, ...]:
    """The markers of a body.

    Raises:
        ValueError: the body has no markers, or a marker is on a body that does not exist.
    """
    name = body.body.name
    if name not in MARKER_SETS:
        raise ValueError(f"no marker set for the body {name!r}; there are {sorted(MARKER_SETS)}")
    markers = MARKER_SETS[name]
    unknown = sorted({m.body for m in markers} - set(body.body_names))
    if unknown:
        raise ValueError(f"markers of {name!r} sit on bodies that it does not have: {unknown}")
    return markers
