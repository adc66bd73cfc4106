"""Made-up time series of eight classes, for demonstrations without any file.

Axes: N series, S steps.
"""

import numpy as np

from mixmin_jax.data.series.series_sets import SeriesSet, SeriesSets

SHAPES = ("sine", "square", "rising", "falling")
PERIODS = {"slow": (14.0, 20.0), "fast": (8.0, 11.0)}  # steps, from and to
MADE_LENGTH = 128  # steps
MADE_SEED = 0
MADE_TRAIN, MADE_TEST = 150, 150  # series of each class
NOISE = 0.3  # standard deviation of the noise; bursts have amplitudes of 0.7 to 1.4
CORRELATION = 0.6  # of the noise of neighboring steps


def made_series() -> SeriesSets:
    """150 series of each class to train on, and 150 others to test on, always the same.

    A series is a burst of a wave on a slow background, with noise:

        x_t = a exp(-((t - t0) / 22)^2 / 2) wave(t / p + u) + b sin(2 pi (t / q + v)) + e_t

    The class is the wave's shape (sine, square, rising or falling sawtooth, each between -1 and 1) and whether its
    period p is slow (14 to 20 steps) or fast (8 to 11). All else is drawn for each series and says nothing of the
    class: amplitude a from 0.7 to 1.4, center t0 from 32 to 96, phases u and v, background b from 0.3 to 1 with a
    period q from 50 to 120 steps, and noise e of standard deviation 0.3 and correlation 0.6 from step to step.

    Rising and falling waves have the same spectrum and autocorrelation, so features of those cannot tell them apart.
    """
    classes = tuple(f"{pace} {shape}" for shape in SHAPES for pace in PERIODS)
    rng = np.random.default_rng(MADE_SEED)
    parts = []
    for count in (MADE_TRAIN, MADE_TEST):
        labels_N = np.tile(np.arange(len(classes), dtype=np.int32), count)
        series_NxS = np.stack([_drawn(rng, *reversed(classes[label].split())) for label in labels_N])
        parts.append(SeriesSet("made", series_NxS[..., None].astype(np.float32), labels_N, classes, "made_series()"))
    return SeriesSets(*parts)


def _drawn(rng: np.random.Generator, shape: str, pace: str) -> np.ndarray:
    t_S = np.arange(MADE_LENGTH)
    cycles_S = t_S / rng.uniform(*PERIODS[pace]) + rng.uniform()
    phase_S = cycles_S % 1
    wave_S = {
        "sine": np.sin(2 * np.pi * cycles_S),
        "square": np.where(phase_S < 0.5, 1.0, -1.0),
        "rising": 2 * phase_S - 1,
        "falling": 1 - 2 * phase_S,
    }[shape]
    burst_S = rng.uniform(0.7, 1.4) * np.exp(-(((t_S - rng.uniform(32, 96)) / 22) ** 2) / 2) * wave_S
    background_S = rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (t_S / rng.uniform(50, 120) + rng.uniform()))
    noise_S = rng.normal(size=MADE_LENGTH) * NOISE
    for step in range(1, MADE_LENGTH):
        noise_S[step] = CORRELATION * noise_S[step - 1] + np.sqrt(1 - CORRELATION**2) * noise_S[step]
    return burst_S + background_S + noise_S
