"""Chance, in streams of their own: what one part of a world draws changes nothing for the others."""

import random

Dice = random.Random


def dice(seed: int, *names: object) -> Dice:
    """The stream of a seed for what has these names."""
    return random.Random(" ".join(map(str, (seed, *names))))
