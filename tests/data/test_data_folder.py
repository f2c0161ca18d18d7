from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdbench.data import Description, dataset_remarks, describe_dataset, load_dataset
from kdbench.data.splits import balanced


def random_images(count: int, seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def test_split_folders_round_trip(tmp_path: Path, write_images: Callable) -> None:
    images = {}
    for number, (split, label) in enumerate((s, c) for s in ("train", "test", "val") for c in ("cat", "dog")):
        images[split, label] = random_images(3, number)
        write_images(tmp_path / split / label, images[split, label])
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    data = load_dataset(f"folder:{tmp_path}")
    assert describe_dataset(f"folder:{tmp_path}") == Description.of_images((3, 6, 5), 2)
    assert data.inputs == describe_dataset(f"folder:{tmp_path}").inputs
    assert data.classes == ("cat", "dog")
    for split, found in (("train", data.train), ("test", data.test), ("val", data.validation)):
        expected = np.stack(images[split, "cat"] + images[split, "dog"])
        assert (found.images.numpy() == expected).all()
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_validation_folder_alone_is_the_test_split(tmp_path: Path, write_images: Callable) -> None:
    for label in ("a", "b"):
        write_images(tmp_path / "train" / label, random_images(10, 1))
        write_images(tmp_path / "validation" / label, random_images(2, 2))
    data = load_dataset(f"folder:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 4)


def test_class_folders_alone_give_a_fifth_to_the_test_split(tmp_path: Path, write_images: Callable) -> None:
    for value, label in enumerate(("a", "b", "c")):
        # The pixel says which image it is.
        write_images(
            tmp_path / label, [np.full((4, 4), 60 * value + row, dtype=np.uint8) for row in range(20)]
        )
    seen = {}
    for seed in (0, 1):
        data = load_dataset(f"folder:{tmp_path}", split_seed=seed)
        parts = [data.train, data.validation, data.test]
        pixels = [part.images[:, 0, 0, 0].tolist() for part in parts]
        assert sorted(itertools.chain(*pixels)) == [
            60 * value + row for value in range(3) for row in range(20)
        ]
        assert np.bincount(data.test.labels).tolist() == [4, 4, 4]
        for part, values in zip(parts, pixels, strict=True):
            assert part.labels.tolist() == [value // 60 for value in values]
        seen[seed] = set(pixels[2])
    assert seen[0] != seen[1]
    assert data.inputs.image_shape == (1, 4, 4)


def test_a_class_may_be_called_train(tmp_path: Path, write_images: Callable) -> None:
    for label in ("bus", "train"):
        write_images(tmp_path / label, random_images(10, 1))
    assert load_dataset(f"folder:{tmp_path}").classes == ("bus", "train")


def test_images_of_many_sizes_and_modes(tmp_path: Path, write_images: Callable) -> None:
    write_images(tmp_path / "a", [np.full((8, 9, 3), 200, dtype=np.uint8)] * 5)
    write_images(tmp_path / "b", [np.full((5, 4), 100, dtype=np.uint8)] * 5)
    Image.new("RGBA", (7, 7), (10, 20, 30, 0)).save(tmp_path / "b" / "alpha.png")
    data = load_dataset(f"folder:{tmp_path}", validation_fraction=0, args={"size": 4})
    assert data.inputs.image_shape == (3, 4, 4)
    values = {tuple(image[0, 0].tolist()) for image in [*data.train.images, *data.test.images]}
    # The transparent picture is white, whatever colour is stored under it.
    assert {(200,) * 3, (100,) * 3, (255,) * 3} <= values and (10, 20, 30) not in values
    grey = load_dataset(f"folder:{tmp_path}", validation_fraction=0, args={"size": 4, "channels": 1})
    assert grey.inputs.image_shape == (1, 4, 4)
    found = describe_dataset(f"folder:{tmp_path}", args={"size": 4, "channels": 1})
    assert found == Description.of_images((1, 4, 4), 2)


def test_a_limit_decodes_only_what_it_keeps(
    tmp_path: Path, write_images: Callable, message_of: Callable
) -> None:
    paths = []
    for label in ("a", "b"):
        paths += write_images(tmp_path / "train" / label, random_images(30, 1))
        write_images(tmp_path / "test" / label, random_images(2, 2))
    kept = balanced(np.repeat([0, 1], 30), 10)
    for row in set(range(60)) - set(kept.tolist()):
        paths[row].write_bytes(b"broken")
    data = load_dataset(f"folder:{tmp_path}", validation_fraction=0, args={"limit": 10})
    assert len(data.train) == 10
    assert "(not an image)" in message_of(lambda: load_dataset(f"folder:{tmp_path}"))


def test_differing_sizes_name_the_first_two(
    tmp_path: Path, write_images: Callable, message_of: Callable
) -> None:
    first = write_images(tmp_path / "train" / "a", [np.zeros((6, 5, 3), np.uint8)] * 4)
    second = write_images(
        tmp_path / "train" / "b", [np.zeros((6, 5, 3), np.uint8), np.zeros((7, 5, 3), np.uint8)]
    )
    for label in "ab":
        write_images(tmp_path / "test" / label, [np.zeros((9, 9, 3), np.uint8)] * 2)
    message = message_of(lambda: load_dataset(f"folder:{tmp_path}"))
    assert f"{first[0]} is 5x6 and {second[1]} is 5x7: give the dataset argument size." in message
    second[1].unlink()
    message = message_of(lambda: load_dataset(f"folder:{tmp_path}"))
    assert f"{first[0]} is 5x6 and {tmp_path}/test/a/000.png is 9x9" in message


def test_colour_among_grey_images_is_not_dropped(
    tmp_path: Path, write_images: Callable, message_of: Callable
) -> None:
    grey = write_images(tmp_path / "a", random_images(5, 0, (4, 4)))
    colour = write_images(tmp_path / "b", random_images(5, 0, (4, 4, 3)))
    message = message_of(lambda: load_dataset(f"folder:{tmp_path}"))
    assert f"{grey[0].parent}" in message
    assert f"{colour[0].parent}" in message
    assert "channels, 3 (RGB) or 1 (grey)" in message
    data = load_dataset(f"folder:{tmp_path}", args={"channels": 3}, validation_fraction=0)
    assert data.inputs.image_shape[0] == 3


def _one_class(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(4, 0))
    return f"{folder} has only the class folder 'cat': put the images of each of two or more classes"


def _empty(folder: Path, write: Callable) -> str:
    return f"{folder} has no class folders"


def _empty_class(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(4, 0))
    (folder / "dog").mkdir()
    return f"{folder / 'dog'} holds no image"


def _broken_image(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    bad = write(folder / "dog", random_images(5, 0))[2]
    bad.write_bytes(b"hello")
    return f"cannot read the image {bad} (not an image): replace or remove it."


def _torn_image(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    bad = write(folder / "dog", random_images(5, 0))[4]
    bad.write_bytes(bad.read_bytes()[:70])
    return f"cannot read the image {bad} ("


def _floats(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    bad = folder / "cat" / "000.tif"
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(bad)
    (folder / "cat" / "000.png").unlink()
    write(folder / "dog", random_images(5, 0))
    return f"{bad} has more than 16 bits a channel (mode F)"


def _broken_link(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    write(folder / "dog", random_images(5, 0))
    (folder / "cat" / "gone.png").symlink_to("/no/such/picture.png")
    return f"{folder}/cat/gone.png is a link to /no/such/picture.png, which is not there"


def _link_to_itself(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    write(folder / "dog", random_images(5, 0))
    (folder / ".hidden").symlink_to(".hidden")
    (folder / "dog" / "again.png").symlink_to("again.png")
    return f"{folder}/dog/again.png is a link to again.png, which is not there"


def _unfit_name(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    write(folder / "dog\x1b[31m", random_images(5, 0))
    return f"{folder}: the name 'dog\\x1b[31m' of a class folder is not plain text: rename it."


def _class_without_test(folder: Path, write: Callable) -> str:
    for label in ("train/cat", "train/dog", "test/cat"):
        write(folder / label, random_images(5, 0))
    return f"class 'dog' of folder:{folder} has no test example: add some."


def _broken_class(folder: Path, write: Callable) -> str:
    write(folder / "cat", random_images(5, 0))
    write(folder / "dog", random_images(5, 0))
    (folder / "eel").symlink_to("../eels", target_is_directory=True)
    return f"{folder}/eel is a link to ../eels, which is not there"


def _no_test(folder: Path, write: Callable) -> str:
    write(folder / "train" / "cat", random_images(5, 0))
    write(folder / "train" / "dog", random_images(5, 0))
    return f"image folder {folder} has no test split (only train): add 'test'."


def _foreign_class(folder: Path, write: Callable) -> str:
    for label in ("train/cat", "train/dog", "test/cat", "test/dgo"):
        write(folder / label, random_images(5, 0))
    return f"{folder / 'test' / 'dgo'} is not a class of the training split. Did you mean 'dog'?"


def _empty_test(folder: Path, write: Callable) -> str:
    for label in ("train/cat", "train/dog"):
        write(folder / label, random_images(5, 0))
    (folder / "test").mkdir()
    return f"{folder / 'test'} holds no class folders with images"


def _too_few(folder: Path, write: Callable) -> str:
    for label in ("cat", "dog"):
        write(folder / label, random_images(2, 0))
    return (
        f"fewer than one a class (2 classes). Add images to {folder}, or make train and test folders in it."
    )


def _link_to_class(folder: Path, write: Callable) -> str:
    for label in ("train/a", "train/b", "test/a", "test/b"):
        write(folder / label, random_images(5, 0))
    link = folder / "train" / "b" / "aa"
    link.symlink_to("../a", target_is_directory=True)
    return (
        f"{link} is a link to {folder / 'train' / 'a'}, so that images of the class folder {folder}/train/a"
    )


def _link_to_parent(folder: Path, write: Callable) -> str:
    write(folder / "a", random_images(5, 0))
    write(folder / "b" / "deep", random_images(5, 0))
    link = folder / "b" / "deep" / "loop"
    link.symlink_to("../..", target_is_directory=True)
    return f"{link} is a link to {folder}, so that"


def _class_twice(folder: Path, write: Callable) -> str:
    write(folder / "b", random_images(5, 0))
    (folder / "a").symlink_to("b", target_is_directory=True)
    return f"{folder}/a is a link to {folder}/b, so that"


@pytest.mark.parametrize(
    "make",
    [
        _link_to_class,
        _link_to_parent,
        _class_twice,
        _one_class,
        _empty,
        _empty_class,
        _broken_image,
        _torn_image,
        _floats,
        _broken_link,
        _link_to_itself,
        _unfit_name,
        _class_without_test,
        _broken_class,
        _no_test,
        _foreign_class,
        _empty_test,
        _too_few,
    ],
)
def test_bad_folders(make: Callable, tmp_path: Path, write_images: Callable, message_of: Callable) -> None:
    text = make(tmp_path, write_images)
    assert text in message_of(lambda: load_dataset(f"folder:{tmp_path}"))


@pytest.mark.parametrize("make", [_one_class, _empty, _floats, _broken_class, _no_test])
def test_describe_sees_it_too(
    make: Callable, tmp_path: Path, write_images: Callable, message_of: Callable
) -> None:
    text = make(tmp_path, write_images)
    assert text in message_of(lambda: describe_dataset(f"folder:{tmp_path}"))


def test_links_inside_a_class_folder_are_followed_and_loops_are_not(
    tmp_path: Path, write_images: Callable
) -> None:
    write_images(tmp_path / "pets" / "a" / "deep" / "er", random_images(3, 0))
    write_images(tmp_path / "pets" / "b", random_images(5, 1))
    write_images(tmp_path / "elsewhere" / "more", random_images(4, 2))
    single = write_images(tmp_path / "single", random_images(1, 3))[0]
    inside = tmp_path / "pets" / "a"
    (inside / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (inside / "one.png").symlink_to(single)
    (inside / "deep" / "loop").symlink_to(inside, target_is_directory=True)
    (inside / ".#lock").symlink_to("nobody@nowhere")
    write_images(tmp_path / "third", random_images(4, 4))
    (tmp_path / "pets" / "c").symlink_to(tmp_path / "third", target_is_directory=True)
    data = load_dataset(f"folder:{tmp_path}/pets", validation_fraction=0)
    assert data.classes == ("a", "b", "c")
    counts = np.bincount(np.concatenate([data.train.labels, data.test.labels]))
    assert counts.tolist() == [3 + 4 + 1, 5, 4]


def test_images_that_are_left_out_are_counted(tmp_path: Path, write_images: Callable) -> None:
    for label in ("train/a", "train/b", "test/a", "test/b"):
        write_images(tmp_path / label, random_images(3, 0))
    assert dataset_remarks(f"folder:{tmp_path}") == ()
    for name in ("a/1.GIF", "b/2.gif", "b/3.heic", "b/notes.txt", "b/.4.gif"):
        (tmp_path / "train" / name).touch()
    write_images(tmp_path / "test", random_images(2, 0))
    kinds, beside = dataset_remarks(f"folder:{tmp_path}")
    assert f"{tmp_path}/train: " in kinds and "(2 .gif, 1 .heic)" in kinds
    assert f"{tmp_path}/test: 2 images lie beside the class folders" in beside
