"""Mazes from uniform numbers: corridors on a grid, a random tree, some loops and rooms."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace

CELLS = 11
"""Cells along either side, the outer walls included."""

ROOMS = 4
"""Rooms of 3 x 3 cells; they may touch or overlap."""

LOOPS = 0.1
"""Probability that a wall between two corridors is missing beside those of the tree."""

_NODES = CELLS // 2
_POSTS = _NODES - 1


def _graph() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges between neighbouring nodes (n, 2); which edges each post has around it, (posts, n)
    bool; and for each cell what it is: entry of (node, edges..., posts..., border).
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
"""Uniform numbers of a maze."""


def maze(u: Array) -> tuple[Array, Array]:
    """A maze from uniform numbers, (..., UNIFORMS).

    The corridors are a spanning tree of least weight, of edges whose weights are random, so that
    all is connected. A room is the cells around a post, whose edges are open.

    Returns:
        Which cells are wall, (..., CELLS²) bool, by x and then y; and the posts that rooms are
        around, (..., ROOMS) int32.
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
    """Of each edge, the least that the heaviest edge of a way between its ends weighs, (..., n).

    An edge belongs to the spanning tree of least weight if no way around is lighter everywhere.
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
    """Cells (..., 2) of nodes, which are never wall."""
    xp = namespace(index)
    return xp.stack([2 * (index // _NODES) + 1, 2 * (index % _NODES) + 1], axis=-1)


def post_cells(index: Array) -> Array:
    """Cells (..., 2) of posts, which are the middles of rooms."""
    xp = namespace(index)
    return xp.stack([2 * (index // _POSTS) + 2, 2 * (index % _POSTS) + 2], axis=-1)


NODES = _NODES**2


def free_way(walls: Array, place: Array, direction: Array) -> Array:
    """How far it is to the next wall, in cells, (..., n).

    Rays cross the lines of the grid; the first line with a wall behind it ends them.

    Args:
        walls: (..., CELLS²) bool, the outer ones among them.
        place: (..., 2) in cells from the corner.
        direction: (..., n, 2) unit vectors.
    """
    ways = [_lines(walls, place, direction, axis) for axis in (0, 1)]
    return namespace(place).minimum(*ways)


def _lines(walls: Array, place: Array, direction: Array, axis: int) -> Array:
    """The same, of the grid's lines across one axis."""
    xp = namespace(place)
    along, across = direction[..., axis, None], direction[..., 1 - axis, None]
    # A direction along the lines meets none.
    slow = xp.abs(along) < 1e-6
    way = (_LINES - place[..., None, axis, None]) / xp.where(slow, 1.0, along)
    beyond = _LINES - (along < 0)
    beside = xp.astype(xp.floor(place[..., None, 1 - axis, None] + way * across), xp.int32)
    here = xp.minimum(xp.maximum(beyond, 0), CELLS - 1)
    beside = xp.minimum(xp.maximum(beside, 0), CELLS - 1)
    index = here * CELLS + beside if axis == 0 else beside * CELLS + here
    batch = index.shape[:-2]
    found = xp.take_along_axis(walls, index.reshape((*batch, -1)), axis=-1).reshape(index.shape)
    return xp.where(found & (way > 0) & ~slow, way, 2.0 * CELLS).min(axis=-1)


_LINES = np.arange(CELLS + 1)
