"""Hashes of texts that stay the same for ever: 64 bits from the UTF-8 bytes alone, whatever library holds them.

A polynomial in the bytes modulo 2^64, then the finaliser of SplitMix64 (Steele, Lea, Flood 2014). Among a million
different texts two share a hash with a chance of about 3 in 10^8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["hash_pairs", "hash_texts", "hash_texts_reference", "mix"]

U64 = npt.NDArray[np.uint64]

_PRIME = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@jit
def hash_texts(raw: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> U64:
    """(B,) the hash of each text: text i is raw[offsets[i]:offsets[i + 1]]."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        h = np.uint64(offsets[row + 1] - offsets[row])
        for at in range(offsets[row], offsets[row + 1]):
            h = h * np.uint64(_PRIME) + np.uint64(raw[at]) + np.uint64(1)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(_FIRST)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(_SECOND)
        hashes[row] = h ^ (h >> np.uint64(31))
    return hashes


def hash_texts_reference(raw: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> U64:
    lengths = np.diff(offsets)
    powers = np.full(int(lengths.max(initial=0)) + 1, _PRIME, np.uint64)
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    after = np.repeat(offsets[1:], lengths) - 1 - np.arange(len(raw))
    sums = np.zeros(len(raw) + 1, np.uint64)
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers[after], out=sums[1:])
    return mix(sums[offsets[1:]] - sums[offsets[:-1]] + lengths.astype(np.uint64) * powers[lengths])


def mix(x: U64) -> U64:
    """Every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    return x ^ (x >> np.uint64(31))


def hash_pairs(a: U64, b: U64) -> U64:
    """The hash of each pair; (a, b) and (b, a) differ."""
    return mix(mix(a + np.uint64(_PRIME)) + b)
