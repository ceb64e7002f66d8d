"""Pictures of one grey level a frame, so that a decoded frame tells which one it is."""

import numpy as np

HEIGHT, WIDTH = 48, 64


def levels(frames):
    """Which frame each one is: frame i is 20 i bright in the middle."""
    return np.rint(frames[:, HEIGHT // 4 : -HEIGHT // 4, WIDTH // 2 :].mean((1, 2, 3)) / 20).astype(int).tolist()
