import hashlib
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from cxrseg.data.sample import CATEGORIES, PHANTOM_MARK, SPLITS
from cxrseg.errors import DatasetError
from cxrseg.io.masks import read_mask
from cxrseg.io.raster import read_raster
from cxrseg.phantom.generate import DEFAULT_COUNTS, Phantom, make_phantom, write_phantoms

SEEDS = range(40)


@cache
def infected() -> list[Phantom]:
    return [make_phantom(seed, "COVID-19", 96) for seed in SEEDS]


def dice(one, other):
    return 2 * (one & other).sum() / max(1, one.sum() + other.sum())


def same(one: Phantom, other: Phantom) -> bool:
    fields = ("image", "infection", "left_lung", "right_lung")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


def test_the_same_arguments_give_the_same_pixels_and_other_seeds_do_not():
    np.random.seed(1)  # the global generator must not matter
    assert same(make_phantom(5, "COVID-19", 96), infected()[5])
    assert not np.array_equal(infected()[5].image, infected()[6].image)


def test_another_process_makes_the_same_pixels():
    code = (
        "import hashlib; from cxrseg.phantom.generate import make_phantom; p = make_phantom(3, 'COVID-19', 96);"
        "print(hashlib.sha256(p.image.tobytes() + p.infection.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    here = infected()[3]
    assert there.strip() == hashlib.sha256(here.image.tobytes() + here.infection.tobytes()).hexdigest()


def test_types_and_range():
    phantom = infected()[0]
    assert phantom.image.dtype == np.uint8 and phantom.image.shape == (96, 96)
    assert phantom.infection.dtype == phantom.left_lung.dtype == phantom.right_lung.dtype == np.bool_
    assert np.array_equal(phantom.lungs, phantom.left_lung | phantom.right_lung)
    spread = [np.ptp(one.image[one.image > 20].astype(int)) for one in infected()]
    assert min(spread) > 60, "an image without contrast"


def test_only_covid_has_an_infection_mask_but_other_pneumonias_have_opacity():
    for seed in range(8):
        by_category = {category: make_phantom(seed, category, 96) for category in CATEGORIES}
        healthy, other, covid = (by_category[name] for name in ("Normal", "Non-COVID", "COVID-19"))
        assert covid.infection.any() and not healthy.infection.any() and not other.infection.any()
        assert np.array_equal(covid.lungs, healthy.lungs) and np.array_equal(other.lungs, healthy.lungs)
        brighter = other.image.astype(int) - healthy.image
        assert brighter[other.lungs].max() > 25, "no opacity to be seen"
        changed = covid.image.astype(int) - healthy.image
        assert changed[covid.infection].mean() > 8 > np.abs(changed[~covid.lungs]).mean()


def test_infection_lies_inside_the_lungs_and_the_lungs_apart():
    for phantom in infected():
        assert not (phantom.infection & ~phantom.lungs).any()
        assert not (phantom.left_lung & phantom.right_lung).any()
        assert 0.12 < phantom.lungs.mean() < 0.6


def test_the_patients_left_lung_is_at_the_images_right_and_the_heart_takes_room_from_it():
    smaller = 0
    for phantom in infected():
        left, right = center_of_mass(phantom.left_lung), center_of_mass(phantom.right_lung)
        assert left[1] > 48 > right[1]
        smaller += int(phantom.left_lung.sum() < phantom.right_lung.sum())
    assert smaller >= 0.8 * len(SEEDS)


def test_fractions_run_from_specks_to_whole_lungs():
    phantoms = [make_phantom(seed, "COVID-19", 64) for seed in range(100)]
    fractions = np.array([phantom.infection.sum() / phantom.lungs.sum() for phantom in phantoms])
    assert fractions.min() < 0.02 and fractions.max() > 0.95
    assert all(np.histogram(fractions, [0, 0.1, 0.3, 0.5, 0.7, 1.0])[0] >= 5)


def test_both_lungs_and_lower_zones_are_hit_most():
    both = sum((p.infection & p.left_lung).any() and (p.infection & p.right_lung).any() for p in infected())
    assert both > 0.7 * len(SEEDS)
    rows = [center_of_mass(p.infection)[0] - center_of_mass(p.lungs)[0] for p in infected()]
    assert np.mean(rows) > 0


@pytest.mark.parametrize("size", [64, (65, 97), (131, 64), (64, 300), (300, 64), 512])
def test_any_size_is_possible(size):
    phantom = make_phantom(2, "COVID-19", size)
    assert phantom.image.shape == phantom.infection.shape == (size if isinstance(size, tuple) else (size, size))
    assert phantom.infection.any() and phantom.left_lung.any() and phantom.right_lung.any()


@pytest.mark.parametrize("seed", [0, 7, 11])
def test_the_same_seed_at_another_size_is_the_same_patient(seed):
    small, large = make_phantom(seed, "COVID-19", 96), make_phantom(seed, "COVID-19", 384)
    reduced = large.image.reshape(96, 4, 96, 4).mean((1, 3))
    assert np.corrcoef(small.image.ravel(), reduced.ravel())[0, 1] > 0.97
    assert dice(small.lungs, large.lungs[2::4, 2::4]) > 0.96
    assert dice(small.infection, large.infection[2::4, 2::4]) > 0.85


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, "Covid", 96), "COVID-19, Non-COVID, Normal"),
        ((0, "Normal", 63), "64 to 2048"),
        ((0, "Normal", (96, 2049)), "64 to 2048"),
        ((-1, "Normal", 96), "seed of 0 or more"),
    ],
)
def test_impossible_arguments_are_refused_with_what_is_possible(arguments, said):
    with pytest.raises(DatasetError, match=said):
        make_phantom(*arguments)


def best_threshold(phantoms, inside):
    """Fitted on half, mean Dice on the other half."""
    fit, judge = phantoms[::2], phantoms[1::2]

    def mean(chosen, threshold):
        return np.mean([dice((p.image > threshold) & inside(p), p.infection) for p in chosen])

    return mean(judge, max(range(0, 256, 6), key=lambda threshold: mean(fit, threshold)))


def otsu(values):
    """Otsu 1979: the threshold of the largest variance between two classes."""
    histogram = np.bincount(values, minlength=256).astype(float)
    below, moment = histogram.cumsum(), (histogram * np.arange(256)).cumsum()
    between = (moment[-1] * below / below[-1] - moment) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return int(between.argmax())


def test_thresholding_does_not_solve_it():
    everywhere = best_threshold(infected(), lambda p: np.ones(p.image.shape, bool))
    in_lungs = best_threshold(infected(), lambda p: p.lungs)
    per_image = np.mean([dice((p.image > otsu(p.image[p.lungs])) & p.lungs, p.infection) for p in infected()])
    assert everywhere < 0.45
    assert in_lungs < 0.75
    assert per_image < 0.75
    assert per_image > 0.3, "opacity cannot be seen"


def test_phantoms_are_written_in_the_layout_of_covid_qu_ex(tmp_path):
    counts = {"train": {"COVID-19": 2, "Non-COVID": 1, "Normal": 1}, "val": {"COVID-19": 1}, "test": {}}
    assert write_phantoms(tmp_path, counts, size=64, seed=4) == tmp_path
    base = tmp_path / "Infection Segmentation Data" / "Infection Segmentation Data"
    found = sorted(str(path.relative_to(base)) for path in base.rglob("*.png"))
    assert "seed 4, size 64" in (base / PHANTOM_MARK).read_text()
    images = ["Train/COVID-19/{}/covid_1.png", "Train/COVID-19/{}/covid_2.png", "Val/COVID-19/{}/covid_3.png"]
    images += ["Train/Non-COVID/{}/non_COVID (1).png", "Train/Normal/{}/Normal (1).png"]
    kinds = ("images", "infection masks", "lung masks")
    assert found == sorted(image.format(kind) for image in images for kind in kinds)
    folder = base / "Train" / "COVID-19"
    assert read_raster(folder / "images" / "covid_1.png").shape == (64, 64)
    assert read_mask(folder / "infection masks" / "covid_1.png").any()
    assert not read_mask(base / "Train" / "Non-COVID" / "infection masks" / "non_COVID (1).png").any()
    contents = {path.read_bytes() for path in base.rglob("images/*.png")}
    assert len(contents) == 5, "two images show the same patient"


def test_written_images_depend_on_the_seed_only(tmp_path):
    for name, counts, seed in (
        ("a", {"val": {"Normal": 1}}, 0),
        ("b", {"train": {"Normal": 2}, "val": {"Normal": 2}}, 0),
        ("c", {"val": {"Normal": 1}}, 1),
    ):
        write_phantoms(tmp_path / name, counts, 64, seed)
    inner = "Infection Segmentation Data/Infection Segmentation Data/Val/Normal/images"
    first = [
        (tmp_path / name / inner / file).read_bytes()
        for name, file in (("a", "Normal (1).png"), ("b", "Normal (3).png"), ("c", "Normal (1).png"))
    ]
    assert first[0] == first[1] != first[2]


def test_impossible_counts_are_all_named(tmp_path):
    with pytest.raises(DatasetError) as caught:
        write_phantoms(tmp_path, {"training": {"Normal": 1}, "val": {"Flu": 1, "Normal": -1}}, 64)
    assert len(caught.value.faults) == 3
    assert not list(tmp_path.iterdir())


def test_default_counts_cover_every_split_and_category():
    assert set(DEFAULT_COUNTS) == set(SPLITS)
    assert all(set(row) == set(CATEGORIES) for row in DEFAULT_COUNTS.values())
