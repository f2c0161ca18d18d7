"""The digits that ship with scikit-learn: 1,797 images of 8 × 8, no network needed."""

from __future__ import annotations

import numpy as np

from kdbench.data.dataset import Description, Examples, Extent, Raw
from kdbench.data.registry import Request, source
from kdbench.data.splits import stratified

# scikit-learn ships no test split: this one is part of what 'digits' means here and never changes.
TEST_FRACTION = 1 / 3
TEST_SEED = 1797


@source(
    "digits",
    title="1,797 handwritten digits, 8×8 grey, in scikit-learn; a fixed third is the test split",
    reference="Alpaydin and Kaynak 1998, UCI Machine Learning Repository",
    describe=Description.of_images((1, 8, 8), 10),
    extent=Extent(train=1198, validation=0, test=599, streams=False),
)
def load(request: Request) -> Raw:
    """Return scikit-learn's digits with grey levels 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    digits = Examples(images, bunch.target.astype(np.int64))
    classes = tuple(str(name) for name in bunch.target_names)
    train, test = stratified(digits.labels, classes, TEST_FRACTION, seed=TEST_SEED, part="test", mend="")
    return Raw(digits.take(train), digits.take(test), classes)
