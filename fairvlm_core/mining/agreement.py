"""Does a note belong to its image? Scores in which no pair is judged by itself, and the rule ``mismatch``.

Every image is also scored with the notes of other images. So it is known what mismatched pairs look like, and their share
and each pair's probability follow without an assumption on the distribution of clean pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from scipy.sparse import diags
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_svd

from ..errors import InputError
from .notices import Notice, Reason
from .rules import Evidence, Judgement, ranking_rule

if TYPE_CHECKING:
    from torch import Tensor

    from .bad_pairs import MiningResult

_LARGEST_CORRELATION = 0.98  # above it, one direction alone would decide
_TAILS = (0.8, 0.9, 0.95)  # quantiles of the re-paired scores above which clean pairs are rare
_SHARE = (0.05, 0.6)  # of mismatched pairs: below, clean outliers explain them; above, the features say too little
_LEAST_AUC = 0.68  # between own notes of clean pairs and notes of other images
_PART_BELOW = (0.09, 0.04)  # by how much a part's AUC lies below that of all images: no evidence, and full evidence
_WRONG = 0.4  # a pair with a higher P(wrong note) is flagged
_SHARED = 0.9  # a pair with a higher P(shared marker) is flagged
_LEVEL = 0.5  # least ratio of the share in the last tail to the share in the first
_FEWEST = 100  # pairs
_FITTED = 20_000  # images that clusters are fitted on
_PARTS = 8  # clusters of images, at most; on average at least `_FEWEST` pairs each
_OFTEN = 0.97  # share of notes above which a word carries no information
_WORD_WEIGHT = 2.0  # of the words of a note, beside its features by the model
_RANKED_BY = ("disagreement", "margin", "outlyingness")


@dataclass(frozen=True)
class Disagreement:
    """How badly notes fit images, in nats; higher is worse. Level and spread depend on the features.

    Attributes
    ----------
    own : float64 ndarray of shape (N,)
        The score of each pair.
    repaired : float64 ndarray of shape (N, R)
        Scores of each image with R notes of other images, as mismatched pairs would have. The same seed gives the same
        pairings.
    """

    own: np.ndarray
    repaired: np.ndarray


@dataclass(frozen=True)
class Mismatch:
    """Which pairs are mismatched.

    Attributes
    ----------
    probability : float64 ndarray of shape (N,)
        Rises with the score; all 0 where nothing can be flagged.
    share : float
        Mean probability; where nothing is flagged, the estimate that was too small or too large.
    notice : Notice or None
        Why nothing is flagged.
    """

    probability: np.ndarray
    share: float
    notice: Notice | None = None


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
    """Minus the pointwise mutual information of notes and images; no pair is part of what it is judged by.

    Both feature sets are taken as jointly normal. Regularised canonical correlation analysis gives directions a_k, b_k with
    correlations ρ_k; with u_k = a_k·(f − mean f) and v_k = b_k·(t − mean t),

        log p(f, t) − log p(f) p(t) = −½ Σ_k [log(1 − ρ_k²) + (ρ_k² (u_k² + v_k²) − 2 ρ_k u_k v_k) / (1 − ρ_k²)]

    is above 0 where the two belong together (model: Bach & Jordan, A probabilistic interpretation of canonical correlation
    analysis, 2005). Means, covariances and directions are estimated on the other folds.

    Parameters
    ----------
    image_features, text_features : array or tensor of shape (N, D)
        Row i of both belongs to pair i.
    weight : float array of shape (N,), optional
        Weight of each pair in the covariance between the two sides, 0 or more; 1 by default.
    folds : int
        2 or more; at most N / 2 are used.
    ridge : float
        Added to both covariances, in units of their mean eigenvalue; above 0. Large values shrink the correlations, most
        of all those of weak directions.
    repairings : int
        Number of notes of other images that each image is scored with, 1 or more; fewer where the folds are small.
    seed : int
        For the folds and the re-pairings.

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
    repairings = min(repairings, n // folds - 1)
    own, repaired = np.empty(n), np.empty((n, repairings))
    for k, part in enumerate(parts):
        others = _Moments(*(a - b for a, b in zip(whole, part, strict=True)))
        rows = np.flatnonzero(fold == k)
        canonical = _Canonical.of(others, ridge)
        u, v = canonical.image(image[rows]), canonical.text(text[rows])
        own[rows] = -canonical.log_ratio(u, v)
        turns = 1 + rng.permutation(len(rows) - 1)[:repairings]  # never an image's own note
        for j, turn in enumerate(turns):
            repaired[rows, j] = -canonical.log_ratio(u, np.roll(v, turn, axis=0))
    return Disagreement(own, repaired)


def word_features(notes: Sequence[str], *, width: int = 256, rarest: int = 5, seed: int = 0) -> np.ndarray:
    """The words of each note as a few numbers; no model is needed.

    Presence of a word, divided by the fourth root of its variance p (1 − p), then the strongest principal directions
    (randomised SVD, Halko et al., SIAM Review 53, 2011). This up-weights rare words, but less than scaling by the inverse
    variance would.

    Parameters
    ----------
    notes : sequence of str, N of them
    width : int
        Largest number of directions.
    rarest : int
        Words in fewer notes than this, or in more than 97 % of the notes, are left out.
    seed : int
        For the randomised SVD.

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
    """How far a pair's image and note together lie from all others.

    The logarithm of the Mahalanobis distance of each side to the mean of its side, standardised over pairs; the two are
    added and standardised again. A wrong note is an ordinary note beside the wrong image, so it is not an outlier. A pair
    whose image and note share a marker, or whose note has only a few stock words, is an outlier on both sides.

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
    image, text = _distances(image_features, text_features, ridge)
    return _standardised(image + text)


def shared_marker_probability(
    image_features: Any, text_features: Any, *, ridge: float = 0.1, repairings: int = 20, seed: int = 0
) -> np.ndarray:
    """P(image and note share a marker): a local false discovery rate (Efron, JASA 99, 2004).

    The sum of both sides' distances, as in `outlyingness`, is compared with the sum for images with the notes of other
    pairs. There the two sides are independent, as in ordinary pairs. P = 1 − f_repaired / f_own, made monotone in the sum.

    Parameters
    ----------
    image_features, text_features, ridge
        As in `outlyingness`.
    repairings : int
        Number of notes of other pairs that each image is combined with.
    seed : int
        For the re-pairings.

    Returns
    -------
    float64 ndarray of shape (N,)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image, text = rng.normal(size=(2, 1000, 8))
    >>> bool(shared_marker_probability(image, text).max() > 0.9)
    False
    >>> image[:10, 0] += 8
    >>> text[:10, 0] += 8
    >>> np.flatnonzero(shared_marker_probability(image, text) > 0.9)
    array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    image, text = _distances(image_features, text_features, ridge)
    turns = 1 + np.random.default_rng(seed).permutation(len(image) - 1)[:repairings]  # never an image's own note
    repaired = np.concatenate([image + np.roll(text, turn) for turn in turns])
    own = image + text
    return np.maximum(0.0, 1.0 - 1.0 / _rising_ratio(own, repaired, own))


def _distances(image_features: Any, text_features: Any, ridge: float) -> list[np.ndarray]:
    """Standardised logarithms of the Mahalanobis distances (N,) of images and of notes."""
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
    return distances


def mismatch_probability(scores: Disagreement, part: np.ndarray | None = None) -> Mismatch:
    """Local false discovery rate with a known distribution of the mismatched (Efron, JASA 99, 2004).

    The density of own scores is (1 − π) f_clean + π f_mismatched, and f_mismatched is that of the re-paired scores. Where
    clean pairs are rare, P(own > t) ≈ π P(repaired > t): π is the smallest such ratio over the upper tails (Storey, JRSS
    B 64, 2002). The probability of a pair is π f_mismatched / f_own; the ratio of densities comes from an isotonic
    regression.

    Notes that contradict their image have higher scores than notes drawn at random. Then π comes out too large, two-fold
    where half of the random notes would fit. So the probability is multiplied by a taper: 1 above the median of the
    re-paired scores, falling to 0 at their lower quartile. A note that fits better than most others is hardly ever wrong.

    Parameters
    ----------
    scores : Disagreement
    part : int array of shape (N,), optional
        Parts of the images, such as clusters of their features. In a part whose images do not fit their own notes as
        clearly as others do, as may happen with images from a rare device, a bad score says little. With A the AUC between
        own and re-paired scores, in the part and of all, the probability is multiplied by (A_part − A_all + 0.09) / 0.05,
        within 0 and 1.

    Returns
    -------
    Mismatch
        Nothing is flagged for fewer than 100 pairs; for π below 5 % (clean outliers make up to 3 %); where the features
        hardly separate own notes from others (π above 60 %, or an AUC below 0.68 after discounting the mismatched); and
        where the ratio in the last tail is less than half of that in the first. With mismatched pairs the ratio levels
        off at π; clean pairs alone let it fall.
    """
    own, repaired = scores.own, scores.repaired.ravel()
    nobody = np.zeros(len(own))
    if len(own) < _FEWEST:
        return Mismatch(nobody, 0.0, Notice(Reason.TOO_FEW_FOR_MISMATCH, {"needed": _FEWEST, "n": len(own)}))
    ratio = [float(np.mean(own > np.quantile(repaired, q))) / (1 - q) for q in _TAILS]
    share = min(ratio)
    place = np.searchsorted(np.sort(repaired), own) / len(repaired)
    if share < _SHARE[0]:
        return Mismatch(nobody, share, Notice(Reason.SMALL_SHARE, {"share": share}))
    if share > _SHARE[1] or (1 - place.mean() - share / 2) / (1 - share) < _LEAST_AUC:
        return Mismatch(nobody, share, Notice(Reason.WEAK_FEATURES))
    if ratio[-1] < _LEVEL * ratio[0]:
        return Mismatch(nobody, share, Notice(Reason.FALLING_TAIL, {"first": ratio[0], "last": ratio[-1]}))
    probability = np.minimum(1.0, share * _rising_ratio(repaired, own, own)) * np.clip(4 * place - 1, 0.0, 1.0)
    if part is not None:
        probability *= _evidence_by_part(scores, part)
    return Mismatch(probability, float(probability.mean()))


def _evidence_by_part(scores: Disagreement, part: np.ndarray) -> np.ndarray:
    """Factor (N,) within 0 and 1: how well own notes differ from other notes in the part of each image."""
    factor, everyone = np.empty(len(part)), _separation(scores.own, scores.repaired)
    none, full = _PART_BELOW
    for one in np.unique(part):
        rows = part == one
        below = everyone - _separation(scores.own[rows], scores.repaired[rows])
        factor[rows] = np.clip((none - below) / (none - full), 0.0, 1.0)
    return factor


def _separation(own: np.ndarray, repaired: np.ndarray) -> float:
    """AUC between own and re-paired scores."""
    return float(1 - np.searchsorted(np.sort(repaired, axis=None), own).mean() / repaired.size)


def _rising_ratio(above: np.ndarray, below: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Ratio of the densities of two samples at some values, by isotonic regression; it never falls with the value."""
    n, m = len(above), len(below)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
        np.concatenate([above, below]), np.repeat([1.0, 0.0], [n, m]), np.repeat([1 / n, 1 / m], [n, m])
    )
    share = np.clip(fitted.predict(at), 1e-9, 1 - 1e-9)
    return share / (1 - share)


class MismatchObserver:
    """Records how far every note disagrees with its image, by its words and by its features, while a run trains.

    Scores are an exponential average with weight ½ over epochs, starting from the pretrained model. Words weigh twice as
    much as features: they are as informative before the first step as after the last.

    Parameters
    ----------
    notes : sequence of str, N of them
    seed : int
    """

    channels = ("disagreement", "mismatch", "outlyingness", "shared")

    def __init__(self, notes: Sequence[str], seed: int):
        self._words, self._seed = word_features(notes, seed=seed), seed
        self._part: np.ndarray | None = None
        self._scores: Disagreement | None = None
        self._probability: np.ndarray | None = None

    def add(self, image: Tensor, text: Tensor) -> dict[str, np.ndarray]:
        """Take in the features (N, D) of the pretrained model or of an epoch; returns the values of `channels`."""
        self._part = _clusters(image, self._seed)
        weight = None if self._probability is None else 1.0 - self._probability
        words, features = (disagreement(image, note, weight, seed=self._seed) for note in (self._words, text))
        own = _WORD_WEIGHT * words.own + features.own
        repaired = _WORD_WEIGHT * words.repaired + features.repaired  # both used the same re-pairings
        if self._scores is not None:
            own, repaired = 0.5 * (self._scores.own + own), 0.5 * (self._scores.repaired + repaired)
        self._judge(Disagreement(own, repaired))
        return {
            "disagreement": own,
            "mismatch": self._probability,
            "outlyingness": outlyingness(image, text),
            "shared": shared_marker_probability(image, text, seed=self._seed),
        }

    def state(self) -> dict[str, Any]:
        import torch

        if self._scores is None:
            return {}
        values = {"own": self._scores.own, "repaired": self._scores.repaired, "part": self._part}
        return {name: torch.from_numpy(value) for name, value in values.items() if value is not None}

    def load(self, state: dict[str, Any]) -> None:
        if "own" in state:
            self._part = state["part"].numpy() if "part" in state else None  # a state of version 0.1 has none
            own, repaired = state["own"].numpy(), state["repaired"].numpy()
            self._judge(Disagreement(own, repaired.reshape(len(own), -1)))

    def _judge(self, scores: Disagreement) -> None:
        self._scores, self._probability = scores, mismatch_probability(scores, self._part).probability


def _clusters(image: Tensor, seed: int) -> np.ndarray:
    """Parts of the images: clusters of their features (N, D), int32 array of shape (N,); fitted on 20,000 at most."""
    features = _features("image_features", image)
    some = np.random.default_rng(seed).permutation(len(features))[:_FITTED]
    count = max(1, min(_PARTS, len(features) // _FEWEST))
    return KMeans(count, n_init=3, random_state=seed).fit(features[some]).predict(features).astype(np.int32)


def _explain_mismatch(result: MiningResult, row: int) -> str:
    if result.kind[row] == "noisy":
        return (
            f"Image and note both lie far from all others, more often together than by chance (rank {result.z[row]:.1f}). "
            "They may share a marker instead of the findings."
        )
    said = "flagged as a wrong note" if result.kind[row] == "faulty" else "not flagged"
    return (
        f"Judged by the other pairs, image and note belong to different patients with a probability of "
        f"{result.posterior[row]:.2f}: {said}."
    )


@ranking_rule(
    "mismatch",
    title="Agreement",
    limits=(),
    gives_posterior=True,
    channels=("mismatch",),
    observer=MismatchObserver,
    explain=_explain_mismatch,
)
def judge_mismatch(evidence: Evidence) -> Judgement:
    """Wrong notes by `mismatch_probability` above 0.4, shared markers by `shared_marker_probability` above 0.9.

    Both as recorded in the latest epoch. The ranking z adds the standardised disagreement and half the standardised margin,
    standardises the sum, and subtracts three times the amount by which outlyingness exceeds 1.5. Before the first epoch
    there is no margin: the ranking is that of the loss, and nothing is noisy.
    """
    probability = evidence.latest("mismatch")
    z, noisy = evidence.z, np.zeros(len(probability), bool)
    if all(name in evidence.ledger.channels for name in _RANKED_BY):
        apart, margin, far = (evidence.latest(name) for name in _RANKED_BY)
        fit = _standardised_seen(_standardised_seen(apart) + 0.5 * _standardised_seen(margin))
        z = fit - 3.0 * np.maximum(far - 1.5, 0.0)
        if "shared" in evidence.ledger.channels:
            noisy = evidence.latest("shared") > _SHARED
        else:  # a run of version 0.1
            noisy = z < -evidence.noisy_sd
        probability = np.where(noisy, 0.0, probability)
    notice = None if np.any(probability > 0) else Notice(Reason.NO_WRONG_NOTE)
    return Judgement(z, probability > _WRONG, noisy, probability, notice=notice)  # NaN compares false


class _Moments(tuple):
    """Sums over pairs: n, Σf, Σt, Σff', Σtt', Σw, Σwf, Σwt, Σwft'. All folds but one are a difference of two sums."""

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
        left, correlation, right = _svd(np.linalg.solve(root_f, np.linalg.solve(root_t, between.T).T))
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


def _standardised_seen(values: np.ndarray) -> np.ndarray:
    return (values - np.nanmean(values)) / (np.nanstd(values) or 1.0)


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular value decomposition; by the slower algorithm where the faster one does not converge (few pairs)."""
    try:
        return np.linalg.svd(matrix)
    except np.linalg.LinAlgError:
        return scipy.linalg.svd(matrix, lapack_driver="gesvd")


def _root(covariance: np.ndarray, ridge: float) -> np.ndarray:
    size = np.trace(covariance) / len(covariance)
    return np.linalg.cholesky(covariance + (ridge * size + 1e-12) * np.eye(len(covariance)))


def _features(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{name}: must be of shape (pairs, width) (got shape {array.shape})")
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        row = int(broken[0])
        raise InputError(f"{name}: row {row} is not finite; look at that pair")
    return array
