"""Finds what would make a test set lie: the same text twice, or nearly the same. Looks at texts and labels only."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rehead.data.examples import Dropped, Examples, Index
from rehead.data.images import ImageInput
from rehead.data.labels import combinations
from rehead.data.splits import joined
from rehead.runtime import progress

# Texts are nearly the same when about this share of their shingles is common to both (Jaccard similarity; Leskovec et
# al., Mining of Massive Datasets, §3.2). In a text message of 80 letters, that is one word in another's place.
NEAR = 0.8
# Bytes of UTF-8 a shingle.
_SHINGLE = 5
# Of MinHash: values a text, and bands that they are divided into. Two texts that share a band are compared: of pairs
# with a similarity of 0.8 all but 1 in 1,000 are, of those with 0.5 a third.
_HASHES, _BANDS = 144, 24
_SEED = 0
# Texts that are hashed at a time.
_HASHED = 4096
# Of an image's hash, how many bits may differ where two look alike, and how strongly their shades must be correlated;
# this number of images is compared with all at a time.
_BITS, _CORRELATED, _COMPARED = 16, 0.98, 256


def content_hash(text: str | ImageInput) -> int:
    """Return a 63-bit hash that is equal for texts that differ in white space and case alone, or for image files with
    the same bytes.
    """
    if isinstance(text, ImageInput):
        return int.from_bytes(text.digest[:8], "big") >> 1
    same = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(same.encode(), digest_size=8).digest(), "big") >> 1


def content_hashes(texts: Sequence[str | ImageInput]) -> npt.NDArray[np.int64]:
    """Return (n,) int64: the fingerprint of each text or image."""
    return np.array([content_hash(text) for text in texts], dtype=np.int64)


def drop_duplicates(examples: Examples) -> tuple[Examples, Dropped]:
    """Keep the first of the texts that are the same up to white space and case.

    A repeat that carries another label than the first is listed under a reason of its own: one of the two
    labels is wrong.
    """
    first: dict[int, int] = {}
    kept: list[int] = []
    labels = combinations(examples.labels)
    dropped: Dropped = {}
    for i, key in enumerate(content_hashes(examples.inputs).tolist()):
        if key not in first:
            first[key] = i
            kept.append(i)
            continue
        same_label = labels[first[key]] == labels[i]
        reason = "duplicate" if same_label else "duplicate with another label"
        dropped.setdefault(reason, []).append(int(examples.lines[i]))
    return examples.take(np.array(kept, dtype=np.int64)), dropped


def near_groups(texts: list[str]) -> Index:
    """Return (n,) int64: texts with the same number are nearly the same, or linked by others that are.

    White space, case and which digits a number has make no difference. Numbers count from 0 by first appearance.
    MinHash estimates the similarity, with a standard error of 0.03, so of pairs close to `NEAR` some are missed.
    """
    forms = [_form(text) for text in texts]
    first: dict[bytes, int] = {}
    of_form = [first.setdefault(form, len(first)) for form in forms]
    different = list(first)
    suspected = np.flatnonzero(_share_a_band(different))
    pairs = _near_pairs([different[i] for i in suspected])
    left, right = suspected[pairs[:, 0]], suspected[pairs[:, 1]]
    graph = coo_array((np.ones(len(pairs)), (left, right)), shape=(len(different), len(different)))
    _, groups = connected_components(graph, directed=False)
    return _by_first_appearance(groups[of_form])


def look_alike(images: Sequence[ImageInput]) -> Index:
    """Return (n,) int64: images with the same number look nearly the same, or are linked by others that do.

    They do if at most `_BITS` of the 256 bits of their difference hashes differ, and if the shades of their small
    copies are correlated by `_CORRELATED` too: of simple drawings many have like hashes.
    """
    hashes = np.stack([image.look.hash for image in images]) if images else np.zeros((0, 4), np.uint64)
    shades = np.stack([image.look.shades for image in images]) if images else np.zeros((0, 1), np.float32)
    groups: Index = np.arange(len(hashes), dtype=np.int64)
    for start in range(0, len(hashes), _COMPARED):
        part = hashes[start : start + _COMPARED]
        differing = np.zeros((len(part), len(hashes)), dtype=np.uint16)
        for word in range(hashes.shape[1]):
            differing += np.bitwise_count(part[:, word, None] ^ hashes[:, word])
        alike = (differing <= _BITS) & (shades[start : start + len(part)] @ shades.T >= _CORRELATED)
        rows, others = np.nonzero(alike)
        # Only the groups are carried on: of images that all look alike there are as many pairs as their square.
        pairs = (np.concatenate([rows + start, np.arange(len(hashes))]), np.concatenate([others, groups]))
        graph = coo_array((np.ones(len(pairs[0]), dtype=np.uint8), pairs), shape=(len(hashes), len(hashes)))
        _, linked = connected_components(graph, directed=False)
        groups = np.unique(linked, return_index=True)[1][linked]  # each named by its first member
    return _by_first_appearance(groups)


def _by_first_appearance(groups: npt.NDArray[np.integer]) -> Index:
    """Return the same groups, numbered from 0 in the order in which they come up."""
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[numbers.reshape(-1)], dtype=np.int64)


def with_near(*parts: Examples) -> list[Examples]:
    """Return the same examples, with `near` set to groups that all the parts share."""
    bounds = np.cumsum([len(part) for part in parts])[:-1]
    if all(part.images is None for part in parts):
        together = near_groups([text for part in parts for text in part.texts])
    else:
        together = look_alike([image for part in parts for image in part.images or []])
    groups = np.split(together, bounds)
    return [replace(part, near=near) for part, near in zip(parts, groups, strict=True)]


def near_of(examples: Examples) -> Index:
    """Return (n,) groups as `with_near` has set them."""
    assert examples.near is not None
    return examples.near


def kept_together(examples: Examples) -> Index | None:
    """Return (n,) groups that must not be parted: near duplicates and what a user wants together; None of neither."""
    known = [groups for groups in (examples.near, examples.groups) if groups is not None]
    return joined(*known) if known else None


def _form(text: str) -> bytes:
    """Return what texts that differ in white space, case and digits alone have in common, a shingle long at least."""
    same = " ".join(text.split()).casefold().translate(_DIGITS)
    return same.encode(errors="surrogatepass").ljust(_SHINGLE, b"\0")


_DIGITS = str.maketrans(dict.fromkeys("123456789", "0"))


def _share_a_band(forms: list[bytes]) -> npt.NDArray[np.bool_]:
    """Return (n,): which of them may be near another; of most texts nothing more needs to be known."""
    bands = np.empty((len(forms), _BANDS), dtype=np.uint64)
    with progress.bar("looking for near duplicates", len(forms)) as advance:
        for start in range(0, len(forms), _HASHED):
            hashes = [_hashed_shingles(form) for form in forms[start : start + _HASHED]]
            offsets = np.cumsum([0, *map(len, hashes)]).astype(np.uint64)
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), offsets, _HASHES, _SEED)
            bands[start : start + _HASHED] = _bands(np.array(matrix.to_rows(), dtype=np.uint32))
            advance(len(hashes))
    shared = np.zeros(len(forms), dtype=np.bool_)
    for band in bands.T:
        _, place, counts = np.unique(band, return_inverse=True, return_counts=True)
        shared |= counts[place] > 1
    return shared


def _bands(digests: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """Return (n, bands): one number for the values of each band, a sixth of them."""
    values = digests.reshape(len(digests), _BANDS, _HASHES // _BANDS).astype(np.uint64)
    powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(values.shape[-1], dtype=np.uint64)
    return np.asarray(values @ powers)


def _hashed_shingles(form: bytes) -> npt.NDArray[np.uint64]:
    """Return the shingles as numbers, their bits mixed (Steele et al., OOPSLA 2014, Figure 15)."""
    letters = np.lib.stride_tricks.sliding_window_view(np.frombuffer(form, np.uint8), _SHINGLE)
    mixed = letters.astype(np.uint64) @ (np.uint64(256) ** np.arange(_SHINGLE, dtype=np.uint64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _near_pairs(forms: list[bytes]) -> Index:
    """Return (m, 2): pairs of positions, some of them several times."""
    digests = np.empty((len(forms), _HASHES), dtype=np.uint32)
    bands = np.empty((len(forms), _BANDS), dtype=np.uint64)
    for start in range(0, len(forms), _HASHED):
        part = forms[start : start + _HASHED]
        shingles = ({form[i : i + _SHINGLE] for i in range(len(form) - _SHINGLE + 1)} for form in part)
        digests[start : start + _HASHED] = RMinHash.digest_matrix_from_token_sets(shingles, _HASHES, _SEED).to_rows()
        bands[start : start + _HASHED] = _bands(digests[start : start + _HASHED])
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for band in bands.T:
        order = np.argsort(band)
        firsts = np.arange(len(order))
        # Of those that share the band each is compared with the next, then with the one behind it, and so on.
        for shift in range(1, len(order)):
            firsts = firsts[firsts + shift < len(order)]
            firsts = firsts[band[order[firsts]] == band[order[firsts + shift]]]
            for start in range(0, len(firsts), _HASHED):
                left, right = (order[firsts[start : start + _HASHED] + by] for by in (0, shift))
                alike = (digests[left] == digests[right]).mean(1) >= NEAR
                pairs.append(np.stack([left[alike], right[alike]], axis=1))
            if not len(firsts):
                break
    return np.concatenate(pairs)


def seen_before(texts: Sequence[str | ImageInput], known: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: which of the texts have a fingerprint among `known`."""
    return np.isin(content_hashes(texts), known)
