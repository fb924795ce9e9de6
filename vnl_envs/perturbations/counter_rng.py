"""Counter-based random numbers, without a generator's state.

A number depends only on (seed, step, stream, index). So no state is carried from step to step, and
NumPy and JAX give the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from vnl_envs.physics import Array, namespace

# 2**32 over the golden ratio: multiples of it spread evenly over the 32 bits.
_GOLDEN = np.uint32(0x9E3779B9)
_BITS = 24


def seed_of(u: Array) -> Array:
    """A seed from two uniform numbers, (..., 2) float32 multiples of 2^-24 -> (...,) uint32.

    24 bits come from the first number and 8 from the second, so that every seed can occur.
    """
    xp = namespace(u)
    integers = xp.astype(u * float(2**_BITS), xp.uint32)
    return (integers[..., 0] << np.uint32(8)) ^ (integers[..., 1] >> np.uint32(16))


def bits(seed: Array, step: Array, stream: int, size: int) -> Array:
    """Hashes of (seed, step, stream, index), (..., size) uint32.

    Args:
        seed: (...,) uint32.
        step: (...,) integers.
        stream: number of the stream; different streams are independent.
        size: number of hashes.
    """
    xp = namespace(seed)
    # A last axis, as NumPy warns of overflow in scalars, but not in arrays.
    seed = seed[..., None]
    step = xp.astype(step, xp.uint32)[..., None]
    key = _mix(seed + np.uint32(stream) * np.ones(1, np.uint32) * _GOLDEN)
    key = _mix(key ^ (step * _GOLDEN))
    return _mix(key + xp.arange(1, size + 1, dtype=xp.uint32) * _GOLDEN)


def uniform(seed: Array, step: Array, stream: int, size: int) -> Array:
    """Uniform numbers in [0, 1), multiples of 2^-24, (..., size) float32; see `bits`."""
    xp = namespace(seed)
    high = bits(seed, step, stream, size) >> np.uint32(32 - _BITS)
    return xp.astype(high, xp.float32) * np.float32(2**-_BITS)


def normal(seed: Array, step: Array, stream: int, size: int) -> Array:
    """Standard normal numbers, (..., size) float32; see `bits`.

    Box and Muller (1958), "A note on the generation of random normal deviates". Logarithm and
    cosine may differ between NumPy and JAX in the last bits.
    """
    xp = namespace(seed)
    pairs = (size + 1) // 2
    u = uniform(seed, step, stream, 2 * pairs)
    # 1 - u is never 0.
    radius = xp.sqrt(np.float32(-2.0) * xp.log(np.float32(1.0) - u[..., :pairs]))
    angle = np.float32(2.0 * math.pi) * u[..., pairs:]
    return xp.concat([radius * xp.cos(angle), radius * xp.sin(angle)], axis=-1)[..., :size]


def _mix(x: Array) -> Array:
    """A bijection of uint32 in which every input bit flips every output bit half of the time.

    `lowbias32` of Chris Wellons, "Prospecting for hash functions" (2018),
    https://nullprogram.com/blog/2018/07/31/.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
