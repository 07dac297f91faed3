"""Error sums and S2EF metrics against values worked out by hand and against a loop written from the definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.metrics.definition import evaluate, numerator_denominator
from mlipbench.metrics.errors import S2EF_METRICS, structure_errors
from mlipbench.metrics.values import Direction, PropertyArrays, StructureErrors

# Three structures with 2, 1 and 3 atoms; of the last only its second atom is free, of the second none.
OFFSETS = np.array([0, 2, 3, 6])
FREE = np.array([True, True, False, False, True, False])
LABELS = PropertyArrays(
    energy=np.array([-1.0, 2.0, 5.0]),
    forces=np.array(
        [[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0], [0.0, 0.0, 2.0], [9.0, 9.0, 9.0]]
    ),
    stress=np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0] * 6, [0.0] * 6]),
)
PREDICTIONS = PropertyArrays(
    energy=np.array([-1.5, 2.01, 8.0]),
    forces=np.array(
        [[4.0, 3.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -6.0], [0.0, 0.0, 0.0]]
    ),
    stress=np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 0.0], [1.0, -1.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6]),
)


def columns() -> StructureErrors:
    return structure_errors(LABELS, PREDICTIONS, OFFSETS, FREE)


def value(name: str, errors: StructureErrors, **options) -> float | None:
    clusters = np.arange(errors.n_atoms.size)
    return evaluate(S2EF_METRICS[name], errors, clusters, **options).value


def test_columns_by_hand():
    errors = columns()
    np.testing.assert_array_equal(errors.n_atoms, [2, 1, 3])
    np.testing.assert_array_equal(errors.n_free, [2, 0, 1])
    np.testing.assert_allclose(errors.energy_error, [-0.5, 0.01, 3.0], rtol=1e-13)
    # Structure 0: |ΔF| = (1, 1, 0) and (0, 1, 0). Structure 2: (0, 0, 8).
    np.testing.assert_array_equal(errors.force_abs_sum, [3.0, 0.0, 8.0])
    np.testing.assert_array_equal(errors.force_sq_sum, [3.0, 0.0, 64.0])
    np.testing.assert_array_equal(errors.force_max, [1.0, np.nan, 8.0])
    # cos((4,3,0), (3,4,0)) = 24/25; a zero vector gives 0; opposite vectors give -1.
    np.testing.assert_allclose(errors.force_cosine_sum, [0.96, 0.0, -1.0], rtol=1e-14)
    # |5 - 5| + |1 - 0|; |6 - 2|.
    np.testing.assert_array_equal(errors.force_magnitude_sum, [1.0, 0.0, 4.0])
    np.testing.assert_array_equal(errors.stress_abs_sum, [6.0, 2.0, 0.0])
    np.testing.assert_array_equal(errors.stress_n, [6, 6, 6])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy_mae", (0.5 + 0.01 + 3.0) / 3),
        ("energy_rmse", math.sqrt((0.25 + 0.0001 + 9.0) / 3)),
        ("energy_per_atom_mae", (0.25 + 0.01 + 1.0) / 3),
        ("energy_per_atom_rmse", math.sqrt((0.0625 + 0.0001 + 1.0) / 3)),
        ("forces_mae", 11.0 / 9),  # three free atoms, nine components
        ("forces_rmse", math.sqrt(67.0 / 9)),
        ("forces_cosine_similarity", (0.96 - 1.0) / 3),
        ("forces_magnitude_error", 5.0 / 3),
        ("energy_forces_within_threshold", 0.0),
        ("stress_mae", 8.0 / 18),
    ],
)
def test_metrics_by_hand(name, expected):
    assert value(name, columns()) == pytest.approx(expected, rel=1e-13, abs=1e-15)


def test_every_definition_is_complete():
    directions = {name: definition.direction for name, definition in S2EF_METRICS.items()}
    higher = {name for name, direction in directions.items() if direction is Direction.HIGHER}
    assert higher == {"forces_cosine_similarity", "energy_forces_within_threshold"}
    units = {name: definition.unit for name, definition in S2EF_METRICS.items()}
    assert units == {
        "energy_mae": "eV",
        "energy_rmse": "eV",
        "energy_per_atom_mae": "eV/atom",
        "energy_per_atom_rmse": "eV/atom",
        "forces_mae": "eV/Å",
        "forces_rmse": "eV/Å",
        "forces_cosine_similarity": "1",
        "forces_magnitude_error": "eV/Å",
        "energy_forces_within_threshold": "1",
        "stress_mae": "eV/Å³",
        "adsorption_energy_mae_self": "eV",
        "relative_energy_mae": "eV",
    }
    assert all(definition.name == name for name, definition in S2EF_METRICS.items())


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        S2EF_METRICS["energy_mae"] = None


@pytest.mark.parametrize(
    ("energy", "force", "within"),
    [
        (0.0199, 0.0299, True),
        (-0.0199, -0.0299, True),
        (0.0201, 0.0, False),
        (0.0, 0.0301, False),
        (-0.0201, 0.0, False),
        (0.0, -0.0301, False),
        (0.02, 0.0, False),  # strictly below
        (0.0, 0.03, False),
    ],
)
def test_within_threshold_is_strict_in_both(energy, force, within):
    # Labels of 0 make the errors exactly the predictions. The force is judged by component, not by norm:
    # two components of 0.0299 have a norm of 0.042.
    labels = PropertyArrays(np.zeros(1), np.zeros((2, 3)))
    forces = np.array([[0.0, 0.0, 0.0], [force, force, 0.0]])
    errors = structure_errors(labels, PropertyArrays(np.array([energy]), forces), np.array([0, 2]))
    assert value("energy_forces_within_threshold", errors) == float(within)


def test_within_threshold_leaves_out_structures_without_free_atoms():
    labels = PropertyArrays(np.zeros(3), np.zeros((3, 3)))
    predictions = PropertyArrays(np.array([0.0, 0.0, 1.0]), np.zeros((3, 3)))
    errors = structure_errors(labels, predictions, np.array([0, 1, 2, 3]), np.array([True, False, True]))
    result = evaluate(S2EF_METRICS["energy_forces_within_threshold"], errors, np.arange(3))
    assert (result.value, result.n) == (0.5, 2)


def test_forces_of_fixed_atoms_are_never_looked_at():
    forces = PREDICTIONS.forces.copy()
    forces[~FREE] = np.nan
    errors = structure_errors(LABELS, replace(PREDICTIONS, forces=forces), OFFSETS, FREE)
    np.testing.assert_array_equal(errors.force_abs_sum, [3.0, 0.0, 8.0])


def test_all_atoms_count_without_a_mask():
    errors = structure_errors(LABELS, PREDICTIONS, OFFSETS)
    np.testing.assert_array_equal(errors.n_free, [2, 1, 3])
    np.testing.assert_array_equal(errors.force_abs_sum, [3.0, 27.0, 8.0 + 54.0])


def test_structures_without_atoms_take_nothing_from_their_neighbours():
    offsets = np.array([0, 0, 2, 2, 2, 3, 3])
    labels = PropertyArrays(None, np.zeros((3, 3)))
    predictions = PropertyArrays(None, np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 5.0]]))
    errors = structure_errors(labels, predictions, offsets)
    np.testing.assert_array_equal(errors.force_abs_sum, [0, 3, 0, 0, 5, 0])
    np.testing.assert_array_equal(errors.force_max, [np.nan, 2, np.nan, np.nan, 5, np.nan])
    assert value("forces_mae", errors) == pytest.approx(8 / 9)


def test_no_structures_at_all():
    empty = PropertyArrays(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 6)))
    errors = structure_errors(empty, empty, np.array([0]))
    result = evaluate(S2EF_METRICS["forces_mae"], errors, np.zeros(0, dtype=int))
    assert (result.value, result.n, result.n_clusters) == (None, 0, 0)
    assert "0 of 0 structures" in result.reason


def test_a_failed_structure_is_left_out_of_every_sum():
    energy, forces, stress = (a.copy() for a in (PREDICTIONS.energy, PREDICTIONS.forces, PREDICTIONS.stress))
    energy[0], forces[:2], stress[0] = np.nan, np.inf, np.nan
    ok = np.array([False, True, True])
    errors = structure_errors(LABELS, PropertyArrays(energy, forces, stress), OFFSETS, FREE, ok)
    for name in ("energy_error", "force_abs_sum", "force_sq_sum", "force_max", "force_cosine_sum", "stress_abs_sum"):
        assert np.isnan(getattr(errors, name)[0]), name
    np.testing.assert_array_equal(errors.stress_n, [0, 6, 6])
    assert value("energy_mae", errors) == pytest.approx(3.01 / 2)
    assert value("forces_mae", errors) == pytest.approx(8 / 3)
    assert value("stress_mae", errors) == pytest.approx(2 / 12)


def test_all_failed_gives_no_value_and_a_reason():
    nothing = PropertyArrays(np.full(3, np.nan), np.full((6, 3), np.nan), np.full((3, 6), np.nan))
    errors = structure_errors(LABELS, nothing, OFFSETS, FREE, np.zeros(3, dtype=bool))
    for definition in S2EF_METRICS.values():
        result = evaluate(definition, errors, np.arange(3))
        assert (result.value, result.ci_low, result.ci_high, result.n) == (None, None, None, 0)
        assert definition.name in result.reason
        assert "0 of 3" in result.reason


@pytest.mark.parametrize("field", ["energy", "forces", "stress"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_unmarked_failure_is_refused(field, wrong):
    broken = getattr(PREDICTIONS, field).copy()
    broken[-2] = wrong  # the second structure's energy and stress, the last structure's free atom
    with pytest.raises(ValueError, match=f"predictions of {field} are not finite, first in structure"):
        structure_errors(LABELS, replace(PREDICTIONS, **{field: broken}), OFFSETS, FREE)


def test_a_missing_label_leaves_out_that_metric_only():
    energy = np.array([np.nan, 2.0, 5.0])
    errors = structure_errors(replace(LABELS, energy=energy), PREDICTIONS, OFFSETS, FREE)
    assert value("energy_mae", errors) == pytest.approx(3.01 / 2)
    assert value("forces_mae", errors) == pytest.approx(11 / 9)


def test_a_missing_property_gives_no_value():
    errors = structure_errors(replace(LABELS, stress=None), replace(PREDICTIONS, energy=None), OFFSETS, FREE)
    assert value("stress_mae", errors) is None
    assert value("energy_mae", errors) is None
    assert value("energy_forces_within_threshold", errors) is None
    assert value("forces_mae", errors) == pytest.approx(11 / 9)


def test_structures_a_metric_does_not_apply_to_are_masked():
    include = np.array([True, True, False])
    assert value("energy_mae", columns(), include=include) == pytest.approx(0.51 / 2)
    numerator, denominator = numerator_denominator(S2EF_METRICS["energy_mae"], columns(), include)
    np.testing.assert_allclose(numerator, [0.5, 0.01, 0.0], rtol=1e-12)
    np.testing.assert_array_equal(denominator, [1.0, 1.0, 0.0])


def test_adsorption_energy_is_the_callers_column():
    errors = columns()
    assert value("adsorption_energy_mae_self", errors) is None
    supplied = replace(errors, adsorption_energy_error=np.array([-2.0, np.nan, 1.0]))
    assert value("adsorption_energy_mae_self", supplied) == 1.5


def test_an_overflow_is_no_number():
    labels = PropertyArrays(None, np.zeros((2, 3)))
    predictions = PropertyArrays(None, np.full((2, 3), 1e200))
    errors = structure_errors(labels, predictions, np.array([0, 1, 2]))
    result = evaluate(S2EF_METRICS["forces_rmse"], errors, np.arange(2))
    assert (result.value, result.n) == (None, 2)
    assert "overflow" in result.reason
    assert value("forces_mae", errors) == pytest.approx(1e200)


def test_cosine_clamps_each_norm_on_its_own():
    # The label's norm 1e-9 is below eps = 1e-8. First atom: 1e-9 / (1e-8 * 1) = 0.1. Second: 1e-6 / (1e-8 * 1e3) = 0.1,
    # where clamping the product of the norms, 1e-6, would change nothing and give 1.
    labels = PropertyArrays(None, np.array([[1e-9, 0.0, 0.0], [1e-9, 0.0, 0.0]]))
    predictions = PropertyArrays(None, np.array([[1.0, 0.0, 0.0], [1e3, 0.0, 0.0]]))
    errors = structure_errors(labels, predictions, np.array([0, 1, 2]))
    np.testing.assert_allclose(errors.force_cosine_sum, [0.1, 0.1], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": np.array([1, 2, 3, 6])}, "start at 0"),
        ({"offsets": np.array([0, 4, 3, 6])}, "never decrease"),
        ({"offsets": np.array([0, 2, 3, 5])}, "forces has shape"),
        ({"offsets": np.array([0, 2, 6])}, "energy has shape"),
        ({"free": np.ones(5, dtype=bool)}, "free has shape"),
        ({"ok": np.ones(2, dtype=bool)}, "ok has shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        structure_errors(LABELS, PREDICTIONS, **({"offsets": OFFSETS, "free": FREE} | arguments))


def test_columns_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="adsorption_energy_error"):
        replace(columns(), adsorption_energy_error=np.zeros(2))


def test_masks_and_clusters_of_other_length_are_refused():
    with pytest.raises(ValueError, match="include has shape"):
        numerator_denominator(S2EF_METRICS["energy_mae"], columns(), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="clusters has shape"):
        evaluate(S2EF_METRICS["energy_mae"], columns(), np.arange(2))


def loop(labels, predictions, offsets, free) -> dict[str, float]:
    """Return the metrics from their definitions, one atom at a time."""
    components, squares, cosines, magnitudes, within, energies = [], [], [], [], [], []
    for i in range(len(offsets) - 1):
        worst = -1.0
        energies.append(abs(float(predictions.energy[i]) - float(labels.energy[i])))
        for j in range(offsets[i], offsets[i + 1]):
            if not free[j]:
                continue
            f, g = [float(x) for x in predictions.forces[j]], [float(x) for x in labels.forces[j]]
            components += [abs(a - b) for a, b in zip(f, g, strict=True)]
            squares += [(a - b) ** 2 for a, b in zip(f, g, strict=True)]
            worst = max(worst, *components[-3:])
            norm_f, norm_g = math.sqrt(sum(a * a for a in f)), math.sqrt(sum(b * b for b in g))
            dot = sum(a * b for a, b in zip(f, g, strict=True))
            cosines.append(dot / (max(norm_f, 1e-8) * max(norm_g, 1e-8)))
            magnitudes.append(abs(norm_f - norm_g))
        if worst >= 0:
            within.append(float(energies[-1] < 0.02 and worst < 0.03))
    mean = lambda x: sum(x) / len(x) if x else None  # noqa: E731
    return {
        "energy_mae": mean(energies),
        "forces_mae": mean(components),
        "forces_rmse": math.sqrt(mean(squares)) if squares else None,
        "forces_cosine_similarity": mean(cosines),
        "forces_magnitude_error": mean(magnitudes),
        "energy_forces_within_threshold": mean(within),
    }


def same(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)


def random_split(seed: int, sizes: list[int]):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(int)
    labels = PropertyArrays(rng.normal(size=len(sizes)), rng.normal(size=(offsets[-1], 3)))
    labels.forces[rng.random(offsets[-1]) < 0.2] = 0.0
    # Errors of about the thresholds, so that EFwT takes both values.
    predictions = PropertyArrays(
        labels.energy + rng.normal(scale=0.02, size=len(sizes)),
        labels.forces + rng.normal(scale=0.01, size=(offsets[-1], 3)),
    )
    return labels, predictions, offsets, rng.random(offsets[-1]) < 0.6


SIZES = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), sizes=SIZES)
def test_agrees_with_a_loop_over_atoms(seed, sizes):
    split = random_split(seed, sizes)
    errors = structure_errors(*split)
    for name, expected in loop(*split).items():
        assert same(value(name, errors), expected), name


def test_the_loop_sees_both_outcomes_of_the_threshold():
    shares = [loop(*random_split(seed, [3] * 10))["energy_forces_within_threshold"] for seed in range(10)]
    assert sum(0.0 < share < 1.0 for share in shares) >= 5


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), sizes=SIZES, data=st.data())
def test_metrics_do_not_depend_on_the_order_of_structures(seed, sizes, data):
    labels, predictions, offsets, free = random_split(seed, sizes)
    order = data.draw(st.permutations(range(len(sizes))))
    atoms = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in order]).astype(int)

    def permuted(p):
        return PropertyArrays(p.energy[list(order)], p.forces[atoms])

    shuffled = structure_errors(
        permuted(labels),
        permuted(predictions),
        np.concatenate(([0], np.cumsum(np.array(sizes)[list(order)]))),
        free[atoms],
    )
    errors = structure_errors(labels, predictions, offsets, free)
    for definition in S2EF_METRICS.values():
        one = evaluate(definition, errors, np.arange(len(sizes)))
        two = evaluate(definition, shuffled, np.array(order))
        assert one == two, definition.name


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), sizes=SIZES)
def test_duplication_keeps_the_metrics(seed, sizes):
    labels, predictions, offsets, free = random_split(seed, sizes)

    def doubled(p):
        return PropertyArrays(np.tile(p.energy, 2), np.tile(p.forces, (2, 1)))

    twice = structure_errors(
        doubled(labels), doubled(predictions), np.concatenate((offsets, offsets[-1] + offsets[1:])), np.tile(free, 2)
    )
    errors = structure_errors(labels, predictions, offsets, free)
    for name in S2EF_METRICS:
        assert same(value(name, twice), value(name, errors)), name


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), shift=st.floats(0.1, 100.0))
def test_shifting_predicted_energies_from_exact_ones_is_the_energy_error(seed, shift):
    labels, _, offsets, free = random_split(seed, [2, 3, 4])
    shifted = replace(labels, energy=labels.energy + shift)
    errors = structure_errors(labels, shifted, offsets, free)
    assert value("energy_mae", errors) == pytest.approx(shift, rel=1e-12)
    assert value("energy_rmse", errors) == pytest.approx(shift, rel=1e-12)
    assert value("forces_mae", errors) in {0.0, None}
    both = structure_errors(shifted, shifted, offsets, free)
    assert value("energy_mae", both) == 0.0


def test_float32_input_is_computed_in_float64():
    labels = PropertyArrays(np.array([1e7], dtype=np.float32), np.zeros((1, 3), dtype=np.float32))
    predictions = PropertyArrays(np.array([1e7 + 0.5]), np.full((1, 3), 1e-30, dtype=np.float32))
    errors = structure_errors(labels, predictions, np.array([0, 1]))
    assert errors.energy_error[0] == 0.5
    assert errors.force_sq_sum[0] == pytest.approx(3e-60, rel=1e-6)  # 0 in float32


def test_evaluate_reports_counts_and_interval():
    rng = np.random.default_rng(3)
    labels = PropertyArrays(np.zeros(40))
    predictions = PropertyArrays(rng.normal(size=40))
    errors = structure_errors(labels, predictions, np.zeros(41, dtype=int))
    result = evaluate(S2EF_METRICS["energy_mae"], errors, np.repeat(np.arange(10), 4))
    assert (result.n, result.n_clusters, result.unit, result.reason) == (40, 10, "eV", None)
    assert result.ci_low < result.value < result.ci_high
    few = evaluate(S2EF_METRICS["energy_mae"], errors, np.repeat(np.arange(5), 8))
    assert few.value == result.value
    assert (few.ci_low, few.ci_high, few.n_clusters) == (None, None, 5)
    assert few.reason == "5 clusters: fewer than the 8 an interval needs"
