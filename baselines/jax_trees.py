"""Conversion of JAX states to lists of arrays and back, for checkpoints and other processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def leaves_of(tree: Any) -> list[np.ndarray]:
    """The arrays of a state, in order."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def with_leaves(like: Any, leaves: Sequence[np.ndarray]) -> Any:
    """A state with the structure of `like` and the arrays from `leaves_of`.

    Raises:
        ValueError: the number or the shapes of the arrays differ.
    """
    own, structure = jax.tree.flatten(like)
    shapes = [(np.shape(x), np.asarray(x).dtype) for x in leaves]
    expected = [(x.shape, x.dtype) for x in own]
    if shapes != expected:
        raise ValueError("the checkpoint holds another learner: its arrays have other shapes")
    return jax.tree.unflatten(structure, [jnp.array(leaf) for leaf in leaves])
