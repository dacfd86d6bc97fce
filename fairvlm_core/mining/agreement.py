"""Does a note belong to its image, judged by what the other pairs show? Scores that no pair gives itself.

The scale is set by the data: every image is also scored with notes of other images. How mismatched pairs look is therefore
known, and their share and each pair's probability follow without any assumption on how clean pairs are distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import diags
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_svd

from ..errors import InputError

_LARGEST_CORRELATION = 0.98  # beyond, a single direction would decide alone
_TAILS = (0.8, 0.9, 0.95)  # quantiles of the re-paired scores above which clean pairs are rare
_SHARE = (0.06, 0.6)  # of mismatched pairs: below, clean outliers explain them; above, the scores tell too little
_TOLD_APART = 0.73  # least AUC between clean own notes and others
_LEVEL = 0.5  # least ratio between the last tail and the first
_FEWEST = 100  # pairs
_OFTEN = 0.97  # share of notes above which a word says nothing


@dataclass(frozen=True)
class Disagreement:
    """How badly notes fit images, in nats; higher is worse. Level and spread depend on the features.

    Attributes
    ----------
    own : float64 ndarray of shape (N,)
        Of each pair.
    repaired : float64 ndarray of shape (R,)
        Of images with notes of other images: what mismatched pairs look like. The same re-pairings for the same seed.
    """

    own: np.ndarray
    repaired: np.ndarray


@dataclass(frozen=True)
class Mismatch:
    """Which pairs are mismatched.

    Attributes
    ----------
    probability : float64 ndarray of shape (N,)
        Never falling with the score; 0 everywhere where nothing can be said.
    share : float
        Mean probability; where nothing is flagged, the estimate that was too small or too large.
    message : str
        Why nothing is flagged; empty otherwise.
    """

    probability: np.ndarray
    share: float
    message: str


def disagreement(
    image_features: Any,
    text_features: Any,
    weight: np.ndarray | None = None,
    *,
    folds: int = 10,
    ridge: float = 3.0,
    repairings: int = 4,
    seed: int = 0,
) -> Disagreement:
    """Minus the pointwise mutual information of notes and images, each pair held out of what it is judged by.

    Both feature sets are taken as jointly normal. Regularised canonical correlation analysis gives directions a_k, b_k with
    correlations ρ_k; with u_k = a_k·(f − mean f) and v_k = b_k·(t − mean t),

        log p(f, t) − log p(f) p(t) = −½ Σ_k [log(1 − ρ_k²) + (ρ_k² (u_k² + v_k²) − 2 ρ_k u_k v_k) / (1 − ρ_k²)]

    is above 0 where the two belong together (Bach & Jordan, A probabilistic interpretation of canonical correlation
    analysis, 2005, for the model). Means, covariances and directions come from the other folds, so that no pair vouches
    for itself.

    Parameters
    ----------
    image_features, text_features : array or tensor of shape (N, D)
        Row i of both belongs to pair i.
    weight : float array of shape (N,), optional
        What each pair counts in the covariance between the two sides, 0 or more; 1 by default.
    folds : int
        Between 2 and N / 2; fewer where N is small.
    ridge : float
        Added to both covariances, in units of their mean eigenvalue; above 0. Large values shrink the correlations, and
        with them the say of the weak directions.
    repairings : int
        Notes of other images that each image is scored with, 1 or more.
    seed : int
        Of the folds and the re-pairings.

    Returns
    -------
    Disagreement

    Raises
    ------
    InputError
        Shapes that do not match, values that are not finite, or a setting out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=(2000, 8))
    >>> text = image + 0.3 * rng.normal(size=(2000, 8))
    >>> text[:300] = text[np.roll(np.arange(300), 1)]                   # three hundred notes change places
    >>> found = mismatch_probability(disagreement(image, text))
    >>> flagged = found.probability > 0.5
    >>> bool(flagged[:300].mean() > 0.5), bool(flagged[300:].mean() < 0.01)
    (True, True)
    """
    image, text = _features("image_features", image_features), _features("text_features", text_features)
    if len(image) != len(text):
        raise InputError(f"text_features: {len(text)} rows do not match the {len(image)} of image_features")
    n = len(image)
    if n < 4:
        raise InputError(f"image_features: {n} pairs; at least four are needed to hold some out")
    if not (np.isfinite(ridge) and ridge > 0):
        raise InputError(f"ridge: must be a number above 0 (got {ridge})")
    if folds < 2 or repairings < 1:
        raise InputError(f"folds, repairings: must be at least 2 and 1 (got {folds} and {repairings})")
    weight = np.ones(n) if weight is None else np.asarray(weight, float)
    if weight.shape != (n,) or not np.isfinite(weight).all() or weight.min() < 0:
        raise InputError(f"weight: one finite number of 0 or more a pair, shape ({n},) (got {weight.shape})")
    rng = np.random.default_rng(seed)
    folds = min(folds, n // 2)
    fold = rng.permutation(n) % folds
    parts = [_Moments.of(image[fold == k], text[fold == k], weight[fold == k]) for k in range(folds)]
    whole = _Moments(*(sum(values) for values in zip(*parts, strict=True)))
    own, repaired = np.empty(n), []
    for k, part in enumerate(parts):
        others = _Moments(*(a - b for a, b in zip(whole, part, strict=True)))
        rows = np.flatnonzero(fold == k)
        canonical = _Canonical.of(others, ridge)
        u, v = canonical.image(image[rows]), canonical.text(text[rows])
        own[rows] = -canonical.log_ratio(u, v)
        turns = 1 + rng.permutation(len(rows) - 1)[:repairings]  # every image meets other notes, none its own
        repaired += [-canonical.log_ratio(u, np.roll(v, turn, axis=0)) for turn in turns]
    return Disagreement(own, np.concatenate(repaired))


def word_features(notes: Sequence[str], *, width: int = 256, rarest: int = 5, seed: int = 0) -> np.ndarray:
    """Which words stand in each note, in few numbers: a view of the notes that no model has to learn.

    Presence of a word, divided by the fourth root of its variance p (1 − p), then the strongest principal directions
    (randomised SVD, Halko et al., SIAM Review 53, 2011). Rare words keep some of the say that a plain covariance denies
    them and an inverse-variance scale would give them in excess.

    Parameters
    ----------
    notes : sequence of str, N of them
    width : int
        Largest number of directions.
    rarest : int
        Words in fewer notes than that are left out, as are those in more than 97 % of the notes.
    seed : int
        Of the randomised SVD.

    Returns
    -------
    float64 ndarray of shape (N, K)
        K ≤ width; zeros of shape (N, 1) where no word is left.

    Examples
    --------
    >>> word_features(["large cup"] * 6 + ["healthy rim"] * 6).shape
    (12, 4)
    """
    counter = CountVectorizer(binary=True, dtype=np.float64, token_pattern=r"\d+(?:[.,]\d+)+|[^\W_]+")
    try:
        present = counter.fit_transform(notes)
    except ValueError:  # no word at all
        return np.zeros((len(notes), 1))
    count = np.asarray(present.sum(0)).ravel()
    kept = np.flatnonzero((count >= rarest) & (count <= _OFTEN * len(notes)))
    if len(kept) == 0:
        return np.zeros((len(notes), 1))
    share = count[kept] / len(notes)
    scaled = present[:, kept] @ diags((share * (1 - share)) ** -0.25)
    left, size, _ = randomized_svd(scaled, min(width, *scaled.shape), n_iter=2, random_state=seed)
    return left * size


def outlyingness(image_features: Any, text_features: Any, *, ridge: float = 0.1) -> np.ndarray:
    """How far a pair's image and its note, both taken together, lie from all others.

    The logarithm of the Mahalanobis distance of each side to the mean of its side, standardised over pairs; the two are
    added and standardised again. A mismatched note is a note like others at the wrong image, so it lies no further out than
    others do. A pair whose two sides share a mark, or a text of a few stock words, lies far out on both.

    Parameters
    ----------
    image_features, text_features : array or tensor of shape (N, D)
        Row i of both belongs to pair i; N of 2 or more.
    ridge : float
        Added to both covariances, in units of their mean eigenvalue; above 0.

    Returns
    -------
    float64 ndarray of shape (N,)
        Mean 0 and standard deviation 1 over pairs; 0 everywhere where all pairs lie equally far out.

    Raises
    ------
    InputError
        Shapes that do not match, values that are not finite, or a ridge that is not above 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image, text = rng.normal(size=(2, 1000, 8))
    >>> image[:10, 0] += 8
    >>> text[:10, 0] += 8                                               # ten pairs share a mark
    >>> sorted(np.argsort(-outlyingness(image, text))[:10].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    image, text = _features("image_features", image_features), _features("text_features", text_features)
    if len(image) != len(text) or len(image) < 2:
        raise InputError(f"text_features: {len(text)} rows; as many as image_features ({len(image)}), and at least two")
    if not (np.isfinite(ridge) and ridge > 0):
        raise InputError(f"ridge: must be a number above 0 (got {ridge})")
    distances = []
    for side in (image, text):
        centred = side - side.mean(0)
        whitened = np.linalg.solve(_root(centred.T @ centred / len(centred), ridge), centred.T)
        distances.append(_standardised(np.log((whitened**2).sum(0) + 1e-12)))
    return _standardised(distances[0] + distances[1])


def mismatch_probability(scores: Disagreement) -> Mismatch:
    """Local false discovery rate with a known law of the mismatched (Efron, JASA 99, 2004).

    Own scores are a blend (1 − π) f_clean + π f_mismatched, and f_mismatched is that of the re-paired ones. Where clean
    pairs are rare, P(own > t) ≈ π P(repaired > t): π is the smallest such ratio over the upper tails (Storey, JRSS B 64,
    2002). The probability of a pair is π f_mismatched / f_own, with the ratio of densities from an isotonic regression.

    Notes that contradict their image lie further out than notes drawn at random, and π comes out too large, two-fold
    where half of the random notes would fit. So the probability is tapered from all of it at the median of the re-paired
    scores to none at their lower quartile: a note that fits better than most others is hardly called wrong.

    Returns
    -------
    Mismatch
        Nothing is flagged where little can be said: below 100 pairs; below π = 6 % (clean outliers make up to 3 %);
        where the features hardly tell a clean pair's own note from others (π above 60 %, or an AUC below 0.73 once the
        mismatched are discounted); where the ratio falls along the tail instead of levelling off, as it does for clean
        pairs alone.
    """
    own, repaired = scores.own, scores.repaired
    nobody = np.zeros(len(own))
    if len(own) < _FEWEST:
        return Mismatch(nobody, 0.0, f"mismatches need {_FEWEST} pairs or more to be told (got {len(own)})")
    ratio = [float(np.mean(own > np.quantile(repaired, q))) / (1 - q) for q in _TAILS]
    share = min(ratio)
    place = np.searchsorted(np.sort(repaired), own) / len(repaired)
    if share < _SHARE[0]:
        return Mismatch(nobody, share, f"{share:.1%} of the notes look like notes of other images: none is flagged")
    if share > _SHARE[1] or (1 - place.mean() - share / 2) / (1 - share) < _TOLD_APART:
        return Mismatch(
            nobody, share, "own notes look like notes of other images: the features tell too little to flag any"
        )
    values = np.concatenate([own, repaired])
    is_repaired = np.repeat([0.0, 1.0], [len(own), len(repaired)])
    equal = np.repeat([1 / len(own), 1 / len(repaired)], [len(own), len(repaired)])
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(values, is_repaired, equal)
    of_repaired = np.clip(fitted.predict(own), 0.0, 1 - 1e-9)
    probability = np.minimum(1.0, share * of_repaired / (1 - of_repaired)) * np.clip(4 * place - 1, 0.0, 1.0)
    return Mismatch(probability, float(probability.mean()), "")


class _Moments(tuple):
    """Sums over pairs, so that a fold's complement is a difference: n, Σf, Σt, Σff', Σtt', Σw, Σwf, Σwt, Σwft'."""

    def __new__(cls, *values: Any) -> _Moments:
        return super().__new__(cls, values)

    @classmethod
    def of(cls, image: np.ndarray, text: np.ndarray, weight: np.ndarray) -> _Moments:
        weighted = image * weight[:, None]
        return cls(
            float(len(image)), image.sum(0), text.sum(0), image.T @ image, text.T @ text,
            float(weight.sum()), weighted.sum(0), weight @ text, weighted.T @ text,
        )  # fmt: skip


@dataclass(frozen=True)
class _Canonical:
    """Canonical directions of both sides and their correlations r, of shape (K,)."""

    mean_f: np.ndarray
    mean_t: np.ndarray
    by_f: np.ndarray
    by_t: np.ndarray
    r: np.ndarray

    @classmethod
    def of(cls, moments: _Moments, ridge: float) -> _Canonical:
        n, sum_f, sum_t, ff, tt, w, wf, wt, ft = moments
        mean_f, mean_t = sum_f / n, sum_t / n
        root_f = _root(ff / n - np.outer(mean_f, mean_f), ridge)
        root_t = _root(tt / n - np.outer(mean_t, mean_t), ridge)
        w = max(w, 1e-12)
        between = ft / w - np.outer(wf / w, mean_t) - np.outer(mean_f, wt / w) + np.outer(mean_f, mean_t)
        left, correlation, right = np.linalg.svd(np.linalg.solve(root_f, np.linalg.solve(root_t, between.T).T))
        k = len(correlation)
        r = np.minimum(correlation, _LARGEST_CORRELATION)
        return cls(mean_f, mean_t, np.linalg.solve(root_f.T, left[:, :k]), np.linalg.solve(root_t.T, right[:k].T), r)

    def image(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean_f) @ self.by_f

    def text(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean_t) @ self.by_t

    def log_ratio(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        square = self.r**2
        fit = (square * (u**2 + v**2) - 2 * self.r * u * v) / (1 - square)
        return -0.5 * (np.log1p(-square) + fit).sum(1)


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _root(covariance: np.ndarray, ridge: float) -> np.ndarray:
    size = np.trace(covariance) / len(covariance)
    return np.linalg.cholesky(covariance + (ridge * size + 1e-12) * np.eye(len(covariance)))


def _features(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{name}: must be of shape (pairs, width) (got shape {array.shape})")
    if not np.isfinite(array).all():
        row = int((~np.isfinite(array)).any(1).nonzero()[0][0])
        raise InputError(f"{name}: row {row} is not finite; look at that pair")
    return array
