"""Writing a trained student to a file that is only left there if it computes what the student computes."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kdbench.errors import UserError, in_words, unknown
from kdbench.exporting.cell import TrainedStudent
from kdbench.exporting.formats import FORMATS
from kdbench.exporting.parity import TOLERANCE, Parity, parity
from kdbench.store import write_json
from kdbench.temporary import temporary_folder

HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it compares with the student in eager mode.

    ``card`` is the JSON file beside it, for a format that cannot hold the card itself.
    """

    path: Path
    bytes: int
    parity: Parity
    card: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        card = None if self.card is None else str(self.card)
        return {"path": str(self.path), "bytes": self.bytes, "card": card, **asdict(self.parity)}


def export(student: TrainedStudent, to: str, out: Path | None = None) -> Exported:
    """Write a student in a format of ``FORMATS``, read the file back, and compare it with the student.

    Args:
        student: what to export.
        to: name of the format.
        out: the file; by default the cell's id with the format's suffix, in the current folder.

    The file appears under its name, whole, once its logits equal the student's within ``TOLERANCE`` of the
    largest; an earlier file of that name stays where they do not.

    Raises:
        UserError: for an unknown format, a package that is not installed, a model that the format cannot
            hold, logits that differ (with the figures), and a folder that cannot be written.
    """
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    if to == "onnx" and any(weight.dtype in HALVES for weight in student.model.parameters()):
        raise UserError(
            f"cell '{student.id}' computes in 16 bits, which ONNX Runtime does not do on the CPU: "
            "export it to torch-export or safetensors."
        )
    format = FORMATS[to]
    path = out or Path(f"{student.id}{format.suffix}")
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a file with --out.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the file can be moved there in one step.
        with temporary_folder(".kdbench-export-", path.parent) as folder:
            partial = folder / f"model{format.suffix}"
            comparison = _write_and_compare(student, to, partial)
            size = partial.stat().st_size
            card = path.with_suffix(".json") if format.card_beside else None
            if card is not None:
                write_json(Path(folder) / card.name, student.card)
            partial.replace(path)
            if card is not None:
                (Path(folder) / card.name).replace(card)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}. Choose another --out.") from error
    return Exported(path, size, comparison, card)


def _write_and_compare(student: TrainedStudent, to: str, path: Path) -> Parity:
    try:
        with warnings.catch_warnings():
            # Exporters warn of what they do themselves; whether it went well is what is compared.
            warnings.simplefilter("ignore")
            FORMATS[to].write(student, path)
            comparison = parity(student.model, FORMATS[to].read(student, path), student.inputs)
    except (UserError, OSError):
        raise
    except Exception as error:  # exporters raise anything, and a model may be a user's own
        reason = in_words(error)[:300]
        raise UserError(
            f"cell '{student.id}' cannot be exported to {to}: {type(error).__name__}: {reason}"
        ) from error
    if not comparison.holds:
        raise UserError(
            f"cell '{student.id}' was not written to {to}, for its logits differ: {comparison}; "
            f"{TOLERANCE:g} of the largest logit is allowed."
        )
    return comparison
