"""Mazes from uniform numbers: corridors on a grid, a random tree, some loops and rooms."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace, pick

CELLS = 11
"""Number of cells along a side, with the outer walls."""

ROOMS = 4
"""Number of rooms of 3 x 3 cells; they may touch or overlap."""

LOOPS = 0.1
"""Probability that a wall between two corridors is missing, beyond those open in the tree."""

_NODES = CELLS // 2
_POSTS = _NODES - 1


def _graph() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The graph of the corridors.

    Returns:
        (n, 2) nodes of each edge between neighbours; (posts, n) bool, whether an edge is beside a
        post; (CELLS²,) kind of each cell, an index into (node, edges..., posts..., border).
    """
    edges = [(i * _NODES + j, (i + di) * _NODES + j + dj, 2 * i + 1 + di, 2 * j + 1 + dj)
             for i in range(_NODES) for j in range(_NODES) for di, dj in ((1, 0), (0, 1))
             if i + di < _NODES and j + dj < _NODES]  # fmt: skip
    posts = [(2 * i + 2, 2 * j + 2) for i in range(_POSTS) for j in range(_POSTS)]
    around = np.array([[abs(x - px) + abs(y - py) == 1 for *_, x, y in edges] for px, py in posts])
    kind = np.full((CELLS, CELLS), 1 + len(edges) + len(posts))
    kind[1::2, 1::2] = 0
    for number, (*_, x, y) in enumerate(edges):
        kind[x, y] = 1 + number
    for number, (x, y) in enumerate(posts):
        kind[x, y] = 1 + len(edges) + number
    return np.array([e[:2] for e in edges]), around, kind.ravel()


EDGES, _AROUND, _KIND = _graph()
POSTS = _POSTS**2
UNIFORMS = 2 * len(EDGES) + POSTS
"""Number of uniform numbers that a maze takes."""


def maze(u: Array) -> tuple[Array, Array]:
    """A maze from uniform numbers, (..., UNIFORMS).

    The corridors form a spanning tree of least weight over edges with random weights, so all cells
    are connected. A room consists of a post and the cells around it.

    Returns:
        Whether each cell is wall, (..., CELLS²) bool, ordered by x, then y; and the posts in the
        middles of the rooms, (..., ROOMS) int32.
    """
    xp = namespace(u)
    count = len(EDGES)
    weight, loop, choice = u[..., :count], u[..., count : 2 * count], u[..., 2 * count :]
    rooms = xp.argsort(choice, axis=-1)[..., :ROOMS]
    room = (rooms[..., None] == np.arange(POSTS)).any(axis=-2)
    inside = (room[..., None] & _AROUND).any(axis=-2)
    # Edges of rooms come first in the tree.
    weight = xp.where(inside, -1.0, weight)
    open_ = (weight <= _bottlenecks(weight)) | (loop < LOOPS) | inside
    never, always = xp.zeros_like(open_[..., :1]), xp.ones_like(open_[..., :1])
    solid = xp.concat([never, ~open_, ~room, always], axis=-1)
    return solid[..., _KIND], xp.astype(rooms, xp.int32)


def _bottlenecks(weight: Array) -> Array:
    """The bottleneck of each edge, (..., n).

    The bottleneck is the least weight, over all paths between the edge's ends, of the heaviest edge
    on the path. An edge belongs to the spanning tree of least weight if its own weight is not
    larger.
    """
    xp = namespace(weight)
    table = np.full((_NODES**2, _NODES**2), len(EDGES))
    for number, (a, b) in enumerate(EDGES):
        table[a, b] = table[b, a] = number
    longest = xp.full_like(weight[..., :1], 2.0)
    heaviest = xp.concat([weight, longest], axis=-1)[..., table]
    for node in range(_NODES**2):
        through = xp.maximum(heaviest[..., :, node, None], heaviest[..., None, node, :])
        heaviest = xp.minimum(heaviest, through)
    return heaviest[..., EDGES[:, 0], EDGES[:, 1]]


def node_cells(index: Array) -> Array:
    """Cells (..., 2) of nodes. They are never wall."""
    xp = namespace(index)
    return xp.stack([2 * (index // _NODES) + 1, 2 * (index % _NODES) + 1], axis=-1)


def post_cells(index: Array) -> Array:
    """Cells (..., 2) of posts. Rooms have posts as middles."""
    xp = namespace(index)
    return xp.stack([2 * (index // _POSTS) + 2, 2 * (index % _POSTS) + 2], axis=-1)


NODES = _NODES**2


def free_distance(walls: Array, place: Array, direction: Array) -> Array:
    """Distance to the next wall in each direction, in cells, (..., n).

    A ray ends at the first line of the grid that has a wall behind it.

    Args:
        walls: (..., CELLS²) bool, with the outer walls.
        place: (..., 2) start of the rays, in cells from the corner.
        direction: (..., n, 2) unit vectors.
    """
    ways = [_lines(walls, place, direction, axis) for axis in (0, 1)]
    return namespace(place).minimum(*ways)


def _lines(walls: Array, place: Array, direction: Array, axis: int) -> Array:
    """The same, for the grid's lines across one axis only."""
    xp = namespace(place)
    along, across = direction[..., axis, None], direction[..., 1 - axis, None]
    # A direction along the lines meets none of them.
    slow = xp.abs(along) < 1e-6
    way = (_LINES - place[..., None, axis, None]) / xp.where(slow, 1.0, along)
    beyond = xp.where(along < 0, _BEFORE, _BEHIND)
    # Rounding towards 0 is rounding down here, as cells below 0 are put to 0.
    beside = xp.astype(place[..., None, 1 - axis, None] + way * across, xp.int32)
    beside = xp.minimum(xp.maximum(beside, 0), CELLS - 1)
    index = beyond * CELLS + beside if axis == 0 else beside * CELLS + beyond
    found = pick(walls, index.reshape((*index.shape[:-2], -1))).reshape(index.shape)
    return xp.where(found & (way > 0) & ~slow, way, 2.0 * CELLS).min(axis=-1)


_LINES = np.arange(CELLS + 1)
# The cells before and behind each line, within the grid.
_BEFORE = np.maximum(_LINES - 1, 0).astype(np.int32)
_BEHIND = np.minimum(_LINES, CELLS - 1).astype(np.int32)
