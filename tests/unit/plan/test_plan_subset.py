"""What `--limit` takes of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.plan.subset import described, stratified


@dataclass
class Sizes:
    """What of a split decides a sample."""

    counts: np.ndarray
    clusters: np.ndarray

    @property
    def n_structures(self) -> int:
        return len(self.counts)


def split_of(counts, clusters=None):
    counts = np.asarray(counts)
    return Sizes(counts, np.arange(len(counts)) if clusters is None else np.asarray(clusters))


def test_every_nth_is_taken_from_a_start_that_the_seed_draws():
    # numpy's documentation gives 0.63696169 as the first double of default_rng(0), which is PCG64(0)
    assert stratified(split_of([2] * 10), 5).tolist() == [1, 3, 5, 7, 9]  # 1.27, 3.27, ...
    assert stratified(split_of([2] * 10), 3).tolist() == [2, 5, 8]  # 2.12, 5.46, 8.79


def test_all_are_taken_where_all_are_wanted():
    assert stratified(split_of([5, 1, 3], [1, 0, 1]), 3).tolist() == [0, 1, 2]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=60), st.data())
def test_sizes_keep_their_shares_to_one_structure(counts, data):
    wanted = data.draw(st.integers(1, len(counts)))
    taken = stratified(split_of(counts), wanted)
    assert len(np.unique(taken)) == wanted
    assert np.all(np.diff(taken) > 0)
    for size in set(counts):
        share = counts.count(size) * wanted / len(counts)
        assert abs(np.sum(np.asarray(counts)[taken] == size) - share) < 1


def test_clusters_of_one_size_keep_their_shares_wherever_their_structures_stand():
    clusters = np.tile([0, 1, 2, 3], 25)
    taken = stratified(split_of([7] * 100, clusters), 20)
    assert np.bincount(clusters[taken]).tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("wanted", [1, 7, 19])
def test_the_words_name_the_sample(wanted):
    assert described(wanted, 20) == f"{wanted} of 20, stratified, seed 0"
