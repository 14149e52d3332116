from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from cxrseg.errors import RecipeError
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import explained, load_recipe, shipped_recipes

MINIMAL = "name: mine\n"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[object]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message(path: object, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def sections(model: type[BaseModel] = Recipe, place: str = "") -> Iterator[tuple[str, str | None]]:
    for key, field in model.model_fields.items():
        yield f"{place}{key}", field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{place}{key}.")


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_parses_and_says_what_it_is_for(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")


def test_the_recipes_of_the_issue_are_shipped() -> None:
    assert {"quick", "baseline-unet", "baseline-unet-small"} <= set(shipped_recipes())
    assert any(load_recipe(name).network.pretrained for name in shipped_recipes())


@pytest.mark.parametrize(("name", "features"), [("baseline-unet", 64), ("baseline-unet-small", 16)])
def test_the_seed_is_as_the_reports_describe_it(name: str, features: int) -> None:
    recipe = load_recipe(name)
    assert (recipe.network.name, recipe.network.features, recipe.network.dropout) == ("unet", features, 0)
    assert (recipe.loss.name, recipe.loss.positive_weight) == ("bce", 1)
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate, recipe.optimiser.batch_size) == ("adam", 1e-4, 8)
    assert (recipe.optimiser.schedule, recipe.optimiser.patience) == ("constant", None)
    assert recipe.data.size == (256, 256)
    assert recipe.data.categories == ("COVID-19",)
    assert recipe.data.targets == ("infection",)
    assert not any(recipe.augment.model_dump().values())


def test_the_small_seed_differs_in_features_and_epochs_only() -> None:
    seed, small = load_recipe("baseline-unet").model_dump(), load_recipe("baseline-unet-small").model_dump()
    changed = {
        f"{section}.{key}"
        for section in ("data", "network", "loss", "augment", "optimiser")
        for key, value in seed[section].items()
        if small[section][key] != value
    }
    assert changed == {"network.features", "optimiser.epochs"}


def test_a_file_is_read_with_defaults_for_the_rest(written) -> None:
    recipe = load_recipe(written("name: mine\noptimiser:\n  epochs: 3\n"))
    assert recipe.optimiser.epochs == 3
    assert recipe.optimiser.batch_size == 8


@pytest.mark.parametrize(
    ("text", "place", "near"),
    [
        ("name: a\nepoch: 3\n", "epoch", "known ones"),
        ("name: a\noptimizer: {}\n", "optimizer", "'optimiser'"),
        ("name: a\noptimiser: {epoch: 3}\n", "optimiser.epoch", "'epochs'"),
        ("name: a\nnetwork: {feature: 8}\n", "network.feature", "'features'"),
        ("name: a\nloss: {gama: 2}\n", "loss.gama", "'gamma'"),
    ],
)
def test_a_misspelt_key_names_the_nearest(written, text: str, place: str, near: str) -> None:
    text = message(written(text))
    assert f"{place}: unknown setting" in text
    assert near in text


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimiser.epochs=0", "optimiser.epochs"),
        ("optimiser.batch_size=0", "optimiser.batch_size"),
        ("optimiser.learning_rate=-1", "optimiser.learning_rate"),
        ("optimiser.name=lion", "optimiser.name"),
        ("optimiser.ema_decay=1", "optimiser.ema_decay"),
        ("optimiser.patience=0", "optimiser.patience"),
        ("optimiser.warmup_epochs=20", "optimiser"),
        ("data.size=250", "250x250"),
        ("data.size=4096", "4096x4096"),
        ("data.targets=[]", "data.targets"),
        ("data.targets=[heart]", "data.targets.0"),
        ("data.targets=[lungs, lungs]", "duplicate"),
        ("data.categories=[covid]", "data.categories.0"),
        ("data.non_covid=maybe", "data.non_covid"),
        ("network.features=2", "network.features"),
        ("network.dropout=1", "network.dropout"),
        ("network.pretrained=true", "pretrained"),
        ("network.encoder=resnet18", "encoder"),
        ("network.name=smp/unet", "encoder"),
        ("loss.name=hinge", "loss.name"),
        ("loss.target_weights={lungs: 2}", "lungs"),
        ("augment.flip=1.5", "augment.flip"),
        ("seed=-1", "seed"),
        ("name=a/b", "name"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(written, override: str, named: str) -> None:
    assert named in message(written(MINIMAL), override)


def test_plateau_has_no_warmup(written) -> None:
    text = message(written(MINIMAL), "optimiser.schedule=plateau", "optimiser.warmup_epochs=1")
    assert "warm-up" in text


def test_all_faults_are_named_at_once(written) -> None:
    text = message(written("name: a\noptimiser: {epochs: 0, batch_size: 0}\nloss: {nam: bce}\n"))
    assert text.count("\n  - ") == 3


def test_overrides_change_single_settings(written) -> None:
    path = written("name: a\noptimiser: {epochs: 9, batch_size: 4}\n")
    recipe = load_recipe(
        path,
        [
            "optimiser.epochs=20",
            "optimiser.learning_rate=1e-3",
            "data.targets=[infection, lungs]",
            "data.size=[64, 96]",
            "loss.target_weights={lungs: 0.5}",
            "network.dropout = 0.1",
            "seed=7",
        ],
    )
    assert (recipe.optimiser.epochs, recipe.optimiser.batch_size, recipe.optimiser.learning_rate) == (20, 4, 1e-3)
    assert recipe.data.targets == ("infection", "lungs")
    assert recipe.data.size == (64, 96)
    assert recipe.loss.target_weights == {"lungs": 0.5}
    assert (recipe.network.dropout, recipe.seed) == (0.1, 7)


def test_the_later_override_wins(written) -> None:
    assert load_recipe(written(MINIMAL), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimiser.epochs", "KEY=VALUE"),
        ("optimiser.epochs.x=3", "is a setting"),
        ("name.x=3", "is a setting"),
        ("data.targets=[infection", "not valid YAML"),
        ("optimiser.epoch=3", "'epochs'"),
    ],
)
def test_an_override_that_cannot_be_used_is_refused(written, override: str, expected: str) -> None:
    text = message(written("name: a\noptimiser: {epochs: 3}\n"), override)
    assert expected in text


def test_a_missing_recipe_names_the_shipped_ones_and_the_nearest(tmp_path: Path) -> None:
    text = message("baseline-unett")
    assert "quick" in text
    assert "did you mean 'baseline-unet'" in text
    assert "no recipe" in message(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("name: [", "not valid YAML"), ("- 3\n", "list"), ("", "NoneType"), ("seed: 1\n", "name: Field required")],
)
def test_a_file_that_is_no_recipe_is_refused(written, text: str, expected: str) -> None:
    text = message(written(text))
    assert expected in text
    assert "mine.yaml" in text


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01\x80")
    assert "not valid YAML" in message(path)


def awkward(written) -> Recipe:
    return load_recipe(
        written("name: a.b+c-d_1\n"),
        [
            "description=\"two: lines\\n# and a hash, 'quotes', Umlaut ä\"",
            "network.name=smp/unet",
            "network.encoder=tu-tf_efficientnet_lite0",
            "network.decoder_channels=[8, 4]",
            "loss.target_weights={infection: 2.5}",
            "optimiser.learning_rate=1e-7",
            "data.size=[64, 96]",
        ],
    )


@pytest.mark.parametrize("name", [*shipped_recipes(), None])
def test_yaml_round_trip(written, name: str | None) -> None:
    recipe = load_recipe(name) if name else awkward(written)
    text = recipe.to_yaml()
    assert load_recipe(written(text)) == recipe
    assert set(yaml.safe_load(text)["optimiser"]) == set(type(recipe.optimiser).model_fields)


@pytest.mark.parametrize("name", [*shipped_recipes(), None])
def test_the_explained_recipe_reads_back_equal(written, name: str | None) -> None:
    recipe = load_recipe(name) if name else awkward(written)
    text = explained(recipe)
    assert load_recipe(written(text)) == recipe
    assert "# Passes over the training images." in text
    assert all(len(line) <= 120 for line in text.splitlines() if line.lstrip().startswith("#"))


def test_every_setting_has_a_meaning() -> None:
    found = dict(sections())
    assert {"seed", "optimiser", "optimiser.epochs", "augment.cutout"} <= set(found)
    assert [place for place, text in found.items() if not text or not text.strip().endswith(".")] == []


def test_every_setting_is_explained() -> None:
    lines = explained(load_recipe("quick")).splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if not line.lstrip().startswith("#") and not before.lstrip().startswith("#")
    ]
    assert bare == []


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load_recipe("quick")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]


def test_a_bomb_of_aliases_and_deep_nesting_are_refused(written) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    for text, expected in (("\n".join(lines), "an alias"), ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply")):
        with pytest.raises(RecipeError, match=expected) as caught:
            load_recipe(written(text))
        assert len(str(caught.value)) < 1000
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe("quick", ["name=" + "[" * 5000])
