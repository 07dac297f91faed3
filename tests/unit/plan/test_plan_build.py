from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.errors import ConfigError, NothingSelectedError, PrerequisiteError, StorageError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan_world import World

    from mlipbench.budget import BatchBudget
    from mlipbench.plan import Plan
else:
    World = Any


def key(plan: Plan, metric: str = "energy_mae", run: int = 0) -> str:
    return next(cell.comparability_key for cell in plan.runs[run].cells if cell.metric == metric)


def rewrite(split: str, seed: int) -> Callable[[World], None]:
    from plan_world import crystals

    return lambda world: world.write(split, crystals(5, seed=seed))


def choice(**changes: Any) -> Callable[[World], None]:
    return lambda world: world.suite.update(models=[{"name": "lj", **changes}])


HASHED: dict[str, Callable[[World], None]] = {
    "data": rewrite("val", 77),
    "fit data": rewrite("train", 78),
    "seed": lambda world: world.suite.update(seeds=[1]),
    "batch budget": choice(batch={"atoms": 7}),
    "settings": choice(settings={"onset": 4.0}),
    "variant": choice(variant="other"),
    "metrics": lambda world: world.suite["tasks"]["s2ef"].update(metrics=["forces_mae"]),
    "suite version": lambda world: world.suite.update(version=2),
    "conversion": lambda world: world.suite["datasets"]["toy"].update(energy=[{"shift": "per_element"}]),
    "fit split": lambda world: world.suite["datasets"]["toy"].update(fit="refs"),
    "splits": lambda world: world.suite["datasets"]["toy"].update(splits=["val", "refs"]),
    "units": lambda world: world.entry["units"].update(energy="kcal/mol"),
    "free atoms": lambda world: world.entry.update(free_atoms_only=True),
    "level": lambda world: world.entry.update(level_of_theory="RPBE"),
}


@pytest.mark.parametrize("what", HASHED)
def test_plan_hash_changes_with(world: World, what: str) -> None:
    before = world.plan().runs[0].sha256
    HASHED[what](world)
    assert world.plan().runs[0].sha256 != before


def test_plan_hash_changes_with_threads_and_limit(world: World) -> None:
    hashes = [world.plan(**selection).runs[0].sha256 for selection in ({}, {"threads": 2}, {"limit": 3}, {"limit": 4})]
    assert len(set(hashes)) == 4


def test_plan_hash_changes_with_card_and_precision(world: World) -> None:
    world.use_card()
    world.card["capabilities"]["dtypes"] = ["float64", "float32"]
    hashes = [world.plan().runs[0].sha256]
    world.suite["models"] = [{"name": world.card_path, "precision": "float32"}]
    hashes.append(world.plan().runs[0].sha256)
    world.suite["models"] = [world.card_path]
    world.card["kwargs"] = {"cutoff": 5.0}
    hashes.append(world.plan().runs[0].sha256)
    assert len(set(hashes)) == 3


def test_plan_hash_changes_with_the_reference_map(world: World) -> None:
    world.entry["references"] = {"split": "refs", "map": "refs.json"}
    path = world.folder / "data/refs.json"
    path.write_text('{"systems": {}}')
    before = world.plan()
    path.write_text('{"systems": {"a": {"b": 1}}}')
    after = world.plan()
    assert after.runs[0].sha256 != before.runs[0].sha256
    metric = "adsorption_energy_mae_self"
    assert key(after, metric) != key(before, metric)
    assert key(after, "forces_mae") == key(before, "forces_mae")


def test_plan_hash_does_not_change_otherwise(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    from plan_world import World as Other

    before = world.plan().runs[0].sha256
    assert world.plan().runs[0].sha256 == before
    world.suite["description"] = "other words"
    world.suite["models"] = ["emt", "lj"]
    assert world.plan().runs[1].sha256 == before
    assert world.plan(models=("lj",)).runs[0].sha256 == before
    assert world.plan(limit=1000).runs[1].sha256 == before
    assert Other(tmp_path_factory.mktemp("elsewhere")).plan().runs[0].sha256 == before


def test_plan_hash_of_an_unfitted_model_does_not_depend_on_the_company_it_keeps(world: World) -> None:
    world.suite["models"] = ["emt"]
    alone = world.plan().runs[0].sha256
    world.suite["models"] = ["emt", "lj"]
    assert world.plan().runs[0].sha256 == alone


def test_data_to_fit_on_are_not_needed_where_nothing_is_fitted(world: World) -> None:
    (world.folder / "data/train.xyz").unlink()
    world.suite["models"] = ["emt"]
    assert world.plan().missing == ()
    world.suite["models"] = ["lj"]
    (line,) = world.plan().missing
    assert "train.xyz" in line


def test_comparability_key_is_equal_between_models_variants_seeds_and_threads(world: World) -> None:
    world.suite["models"] = ["lj", {"name": "lj", "variant": "b", "batch": {"atoms": 3}}, "composition"]
    world.suite["seeds"] = [0, 1]
    plans = [world.plan(), world.plan(threads=3)]
    assert len({key(plan, run=run) for plan in plans for run in range(6)}) == 1


def test_comparability_key_differs_where_numbers_may_not_be_ranked_together(world: World) -> None:
    keys = [key(world.plan()), key(world.plan(), "forces_mae"), key(world.plan(limit=2))]
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    converted = world.plan()
    assert key(converted, "forces_mae") == keys[1]
    keys.append(key(converted))
    rewrite("train", 99)(world)
    keys.append(key(world.plan()))
    world.entry["free_atoms_only"] = True
    keys.append(key(world.plan()))
    rewrite("val", 98)(world)
    keys.append(key(world.plan()))
    assert len(set(keys)) == 7


def test_limit_takes_a_sample_of_evaluated_splits_only(world: World) -> None:
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    splits = {split.split: split for split in world.plan(limit=2).runs[0].splits}
    assert (splits["val"].n_structures, splits["val"].selection, splits["val"].n_atoms) == (
        2, "2 of 5, stratified, seed 0", 4,
    )  # fmt: skip
    assert splits["val"].places is not None
    assert splits["val"].places.tolist() == [1, 4]  # 0.637 and 1.637 steps of 5 / 2
    assert splits["val"].bounds.tolist() == [0, 2]
    assert (splits["train"].n_structures, splits["train"].selection) == (6, "all")


def test_batches_follow_the_budget(world: World) -> None:
    choice(batch={"atoms": 5})(world)  # two atoms each
    assert world.plan().runs[0].splits[0].bounds.tolist() == [0, 2, 4, 5]
    choice(batch={"structures": 3})(world)
    assert world.plan().runs[0].splits[0].bounds.tolist() == [0, 3, 5]
    choice(batch={"edges": 1})(world)
    assert world.plan().runs[0].splits[0].bounds.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "selection", "said"),
    [
        (lambda w: None, {"limit": 0}, "a limit of 0 makes no sense"),
        (lambda w: None, {"limit": -3}, "a limit of -3 makes no sense"),
        (lambda w: None, {"threads": 0}, "a number of threads of 0 makes no sense"),
        (lambda w: w.suite["tasks"]["s2ef"].update(metrics=["force_mae"]), {}, "'force_mae'.*did you mean forces_mae"),
        (lambda w: w.suite.update(models=["chgnett"]), {}, "unknown model 'chgnett'; did you mean chgnet"),
        (lambda w: None, {"models": ("ljj",)}, "unknown model 'ljj'; did you mean lj"),
        (lambda w: None, {"device": "cuda"}, "'lj' does not offer device 'cuda'; it declares cpu"),
        (lambda w: None, {"device": "cuda:1"}, "'lj' does not offer device 'cuda'"),
        (choice(precision="float32"), {}, "'lj' does not offer precision 'float32'; it declares float64"),
        (choice(device="tpu"), {}, "'lj' does not offer device 'tpu'"),
        (lambda w: w.suite["datasets"]["toy"].update(splits=["vall"]), {}, "no split 'vall'; did you mean val"),
        (lambda w: w.suite["datasets"]["toy"].update(fit="trian"), {}, "no split 'trian'; did you mean train"),
        (lambda w: w.suite["datasets"]["toy"].update(overrides={"pbx": "file"}), {}, "unknown key; did you mean pbc"),
        (
            lambda w: w.suite["datasets"]["toy"].update(energy=[{"models": ["chgnt"], "shift": "per_element"}]),
            {},
            "datasets.toy.energy: unknown model 'chgnt'; did you mean chgnet",
        ),
        (
            lambda w: w.suite.update(models=[{"name": "emt", "batch": {"edges": 100}}]),
            {},
            "'emt' declares no cutoff, so its batches cannot be cut by edges",
        ),
    ],
)
def test_contradictions_are_refused(
    world: World, change: Callable[[World], None], selection: dict[str, Any], said: str
) -> None:
    change(world)
    with pytest.raises(ConfigError, match=said):
        world.plan(**selection)


def test_unknown_dataset_lists_close_names(world: World) -> None:
    world.suite["datasets"] = {"mini-slab": {"splits": ["val_id"]}}
    with pytest.raises(ConfigError, match="unknown dataset 'mini-slab'; did you mean mini-slabs"):
        world.plan()


def test_fitted_card_without_a_batch_budget_is_refused(world: World) -> None:
    world.use_card()
    del world.card["batch"]
    world.card["fitted"] = True
    with pytest.raises(ConfigError, match="declares no batch budget; give"):
        world.plan()


def test_card_without_a_batch_budget_waits_for_its_measurement(world: World) -> None:
    world.use_card()
    del world.card["batch"]
    (line,) = world.plan().runs[0].missing
    assert "declares no batch budget" in line


def test_a_model_without_its_file_of_weights_is_left_out_with_one_line(world: World) -> None:
    world.card["checkpoint"] = {"path": "gone.pt"}
    world.suite["models"] = [world.card_path, "lj"]
    plan = world.plan()
    assert [run.model for run in plan.runs] == ["lj"]
    (line,) = plan.missing
    assert line == f"card: {world.folder}/cards/gone.pt: the checkpoint cannot be read (No such file or directory)"


@pytest.mark.parametrize("error", [PrerequisiteError, WorkerError])
def test_a_model_whose_batch_budget_cannot_be_measured_is_left_out_with_one_line(
    world: World, error: type[Exception]
) -> None:
    def measure(*_: object) -> BatchBudget:
        raise error("it fails on the smallest batch")

    del world.card["batch"]
    world.suite["models"] = [world.card_path, "lj"]
    plan = world.plan(measure=measure)
    assert [run.model for run in plan.runs] == ["lj"]
    assert plan.missing == ("card: it fails on the smallest batch",)


def test_a_full_disk_ends_the_planning(world: World) -> None:
    def measure(*_: object) -> BatchBudget:
        raise StorageError("no space left on device")

    del world.card["batch"]
    world.suite["models"] = [world.card_path, "lj"]
    with pytest.raises(StorageError):
        world.plan(measure=measure)


def test_card_by_path_needs_trust(world: World) -> None:
    world.use_card()
    with pytest.raises(PrerequisiteError, match="--trust"):
        world.plan(trust=False)


def test_no_model_is_nothing_selected(world: World) -> None:
    with pytest.raises(NothingSelectedError, match="no model is selected"):
        world.plan(models=())


def test_selected_models_replace_the_suite_s_and_keep_its_settings(world: World) -> None:
    world.suite["models"] = ["emt", {"name": "lj", "variant": "fine", "batch": {"atoms": 3}}]
    plan = world.plan(models=("lj", "composition", "lj"))
    assert [(run.model, run.variant.name) for run in plan.runs] == [("lj", "fine"), ("composition", "default")]
    assert plan.runs[0].variant.batch.atoms == 3


def test_every_seed_is_a_run(world: World) -> None:
    world.suite["seeds"] = [3, 5]
    assert [run.seed for run in world.plan().runs] == [3, 5]


def test_missing_data_are_one_line_and_leave_the_rest_of_the_plan(world: World) -> None:
    world.suite["datasets"]["gone"] = {
        "splits": ["val"],
        "entry": "toy.yaml",
        "overrides": {"splits": {"val": {"files": ["gone.xyz"]}}},
    }
    plan = world.plan()
    (line,) = plan.missing
    assert "gone.xyz" in line
    assert "--data-root" in line
    assert set(plan.datasets) == {"toy"}
    assert [split.dataset for split in plan.runs[0].splits] == ["toy"]


def test_overrides_change_the_entry(world: World) -> None:
    world.suite["datasets"]["toy"]["overrides"] = {"level_of_theory": "HSE06", "units": {"energy": "kcal/mol"}}
    entry = world.plan().datasets["toy"].entry
    assert (entry.level_of_theory, entry.units.energy, entry.units.length) == ("HSE06", "kcal/mol", "A")


def test_threads_come_from_the_environment_unless_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert world.plan(threads=None).runs[0].threads == 3
    assert world.plan(threads=2).runs[0].threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "zero")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    assert world.plan(threads=None).runs[0].threads == 5


def test_plan_as_json_says_what_would_run(world: World) -> None:
    content = world.plan(limit=3).as_dict()
    (run,) = content["runs"]
    assert (content["suite"], content["missing"], run["model"], run["fits"]) == ("mine", [], "lj", {"toy": "train"})
    (split,) = run["splits"]
    assert (split["split"], split["n_structures"], split["status"]) == ("val", 3, "ok")
    assert split["selection"] == "3 of 5, stratified, seed 0"
    assert {cell["metric"] for cell in run["cells"]} >= {"energy_mae", "forces_mae"}
