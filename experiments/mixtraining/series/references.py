"""Other models on the same series, which a transformer should at least beat.

Axes: N series, S steps, C channels, F features.
"""

import contextlib

import numpy as np

from experiments.mixtraining.domain import Labels

LAGS = (1, 2, 3, 5, 8, 13)  # steps, of autocorrelations
BANDS = 16  # of the power spectrum
MINIROCKET = "MiniRocket with ridge regression"
MIN_MINIROCKET_LENGTH = 9  # steps; its kernels have nine weights


def other_models(train: Labels, test: Labels) -> dict[str, float]:
    """Test accuracy of three models; MiniRocket only if aeon can be imported and series have nine steps or more.

    - Logistic regression on `simple_features`, standardized.
    - The nearest training series by Euclidean distance, each series and channel with mean 0 and variance 1.
    - MiniRocket (Dempster et al., arXiv:2012.08791) with aeon's defaults: 10,000 kernels and a ridge classifier.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def accuracy(model, of) -> float:
        model.fit(of(train.inputs), train.labels_N)
        return float(model.score(of(test.inputs), test.labels_N))

    linear = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-3, max_iter=1000))
    found = {
        "logistic regression on simple features": accuracy(linear, simple_features),
        "nearest neighbor": accuracy(
            KNeighborsClassifier(1), lambda series_NxSxC: _standardized(series_NxSxC).reshape(len(series_NxSxC), -1)
        ),
    }
    if train.inputs.shape[1] >= MIN_MINIROCKET_LENGTH:
        with contextlib.suppress(ImportError):
            from aeon.classification.convolution_based import MiniRocketClassifier

            found[MINIROCKET] = accuracy(MiniRocketClassifier(random_state=0), lambda x_NxSxC: x_NxSxC.swapaxes(1, 2))
    return found


def simple_features(series_NxSxC: np.ndarray) -> np.ndarray:
    """Features_NxF of each channel: what one would look at first.

    Mean and standard deviation; and of the series at mean 0 and variance 1: the slope of its trend (its covariance with
    time from -1 to 1), the mean size of a step's change, autocorrelations at 1, 2, 3, 5, 8 and 13 steps (the shorter
    ones of short series), and the logarithm of its power in up to 16 bands of equal width.
    """
    raw_NxSxC = series_NxSxC.astype(np.float64)
    x_NxSxC, steps = _standardized(raw_NxSxC), raw_NxSxC.shape[1]
    time_Sx1 = np.linspace(-1, 1, steps)[:, None]
    power_NxKxC = np.abs(np.fft.rfft(x_NxSxC, axis=1)[:, 1:]) ** 2 / steps
    bands = np.array_split(power_NxKxC, min(BANDS, power_NxKxC.shape[1]), axis=1)
    features = [
        raw_NxSxC.mean(axis=1),
        raw_NxSxC.std(axis=1),
        (x_NxSxC * time_Sx1).mean(axis=1),
        np.abs(np.diff(x_NxSxC, axis=1)).mean(axis=1),
        *((x_NxSxC[:, lag:] * x_NxSxC[:, :-lag]).mean(axis=1) for lag in LAGS if lag < steps),
        *(np.log(band.mean(axis=1) + 1e-6) for band in bands),
    ]
    return np.concatenate(features, axis=1)


def _standardized(series_NxSxC: np.ndarray) -> np.ndarray:
    deviation = series_NxSxC.std(axis=1, keepdims=True)
    return (series_NxSxC - series_NxSxC.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
