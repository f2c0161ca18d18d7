"""What to run: a suite is one YAML file, checked field by field before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from kdbench.errors import UserError, nearest, unknown
from kdbench.suite.measurements import (
    ControlsEntry,
    IndependentEntry,
    MeasureEntry,
    RobustnessEntry,
)
from kdbench.suite.plain import LONGEST_LABEL, MOST_ENTRIES, MOST_THREADS, Lines, as_name, shown
from kdbench.suite.references import PATHS_FROM, located, names_files
from kdbench.suite.schema import (
    CONTROL,
    TEACHER,
    Augment,
    ChainEntry,
    DatasetEntry,
    ImbalanceEntry,
    MethodEntry,
    ModelEntry,
    Name,
    PairEntry,
    Recipe,
    Strict,
    TapsEntry,
    TeacherEntry,
)
from kdbench.suite.seed import Seed
from kdbench.suite.yaml_source import YamlSource, as_field, as_yaml


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


# How the parts of a location begin that pydantic puts in for a choice between classes.
OF_UNION = "one-of-"
_OF_CHOICE = ("function-", "constrained-", "tuple[", OF_UNION)


def _kind_of_method(value: Any) -> str:
    chained = isinstance(value, ChainEntry) or (isinstance(value, dict) and "chain" in value)
    return f"{OF_UNION}{'chain' if chained else 'method'}"


Student = Annotated[ModelEntry, BeforeValidator(_from_name)]
Teacher = Annotated[TeacherEntry, BeforeValidator(_from_name)]
Method = Annotated[
    Annotated[MethodEntry, Tag(f"{OF_UNION}method")] | Annotated[ChainEntry, Tag(f"{OF_UNION}chain")],
    Discriminator(_kind_of_method),
    BeforeValidator(_from_name),
]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _repeated(labels: Iterable[Any]) -> Iterator[Any]:
    """Yield the labels that are there twice."""
    return (label for label, count in Counter(labels).items() if count > 1)


class Suite(Strict):
    """One benchmark: every student is made by every method from every teacher, once a seed.

    ``pairs`` names the students of each teacher, where not every student is for every teacher.
    ``inapplicable`` says what happens to a method that cannot work with a pair. ``threads`` are those of the
    CPU while it trains; small models are faster with one. Like the device it is recorded, not part of ids.
    ``metrics`` and ``sections`` are further ones of a user's own, ``path/file.py:Name``, for records and
    report.
    ``paths_from`` is the folder that paths of the suite are relative to, by default that of its file.
    """

    name: str = Field(pattern=NAME, max_length=LONGEST_LABEL)
    description: Lines = ""
    dataset: Annotated[DatasetEntry, BeforeValidator(_from_name)]
    teachers: tuple[Teacher, ...] = Field(min_length=1, max_length=MOST_ENTRIES)
    students: tuple[Student, ...] = Field(min_length=1, max_length=MOST_ENTRIES)
    methods: tuple[Method, ...] = Field(min_length=1, max_length=MOST_ENTRIES)
    pairs: tuple[PairEntry, ...] = Field((), max_length=MOST_ENTRIES)
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1, max_length=MOST_ENTRIES)
    recipe: Recipe = Recipe()
    measure: MeasureEntry = MeasureEntry()
    controls: ControlsEntry = ControlsEntry()
    robustness: RobustnessEntry | None = None
    metrics: tuple[Name, ...] = Field((), max_length=MOST_ENTRIES)
    sections: tuple[Name, ...] = Field((), max_length=MOST_ENTRIES)
    inapplicable: Literal["error", "skip"] = "error"
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    paths_from: Path | None = None

    @model_validator(mode="after")
    def _known_pairs(self) -> Suite:
        teachers = {teacher.shown for teacher in self.teachers}
        students = {student.shown for student in self.students}
        methods = {method.shown for method in self.methods if len(method.links) == 1}
        chains = {method.shown for method in self.methods} - methods
        for entry in self.pairs:
            labels = [("teacher", [entry.teacher], teachers), ("student", entry.students, students)]
            for kind, names, allowed in (*labels, ("method", entry.methods, methods)):
                for name in names:
                    if kind == "method" and name in chains:
                        raise ValueError(f"pairs: '{name}' is a chain, whose values cannot be set here")
                    if name not in allowed:
                        raise ValueError(f"pairs: unknown {kind} '{name}'.{nearest(name, allowed)}")
        return self

    @model_validator(mode="after")
    def _one_control(self) -> Suite:
        for method in self.methods:
            if method.label == CONTROL and [link.name for link in method.links] != [CONTROL]:
                raise ValueError(f"the label '{CONTROL}' is that of the student trained alone; give another")
        return self

    @model_validator(mode="after")
    def _no_duplicates(self) -> Suite:
        for kind, labels in (
            ("teacher", [teacher.shown for teacher in self.teachers]),
            ("student", [student.shown for student in self.students]),
            ("seed", [str(seed) for seed in self.seeds]),
        ):
            for label in _repeated(labels):
                raise ValueError(f"duplicate cells: {kind} '{label}' is listed twice; give one a label")
        teachers = {teacher.shown: (teacher.name, teacher.args) for teacher in self.teachers}
        for student in self.students:
            if student.name == TEACHER and (student.args or student.checkpoint or student.taps):
                raise ValueError(
                    f"student '{student.shown}' is the teacher's own network: it takes no args, checkpoint "
                    "or taps"
                )
            if teachers.get(student.shown, (student.name, student.args)) != (student.name, student.args):
                raise ValueError(f"'{student.shown}' is a teacher and another student; give one a label")
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Suite:
        """Read a suite by the name of one that ships with kdbench, or from a YAML file.

        Paths in it, and in overrides, are relative to its file, those of a suite that ships to the current
        folder. They are kept as they were written; ``paths_from`` is where they are found from.

        Args:
            path: a name (``quickstart``) or the path of a file.
            overrides: ``key=value`` pairs such as ``recipe.epochs=3``; values are YAML.

        Raises:
            UserError: naming file, line and field, what was found, and what is allowed.
        """
        file = suite_file(path)
        source = YamlSource.read(file)
        for override in overrides:
            source.override(override)
        if not isinstance(source.value, dict):
            raise UserError(f"{file}: a suite is a mapping of fields such as 'dataset' and 'students'.")
        own = file.absolute().parent if _is_file(path) else Path.cwd()
        base = source.value.get(PATHS_FROM)
        try:
            as_name(base if isinstance(base, str) else "")
        except ValueError as error:
            raise UserError(f"{source.where([PATHS_FROM])}: {PATHS_FROM}: {error}.") from None
        folder = own / Path(base).expanduser() if isinstance(base, str) else own
        fields = {"name": file.stem} | source.value
        if base is None or isinstance(base, str):
            fields[PATHS_FROM] = str(folder)
        try:
            return cls.model_validate(fields, context={PATHS_FROM: folder})
        except ValidationError as error:
            raise UserError(describe_mistake(error, source)) from None

    def to_yaml(self) -> str:
        """Return the suite with every default filled in, as YAML that can be read from any folder."""
        named = [self.dataset.name, *(model.name for model in (*self.teachers, *self.students))]
        named += [*self.metrics, *self.sections]
        links = [link for method in self.methods for link in method.links]
        named += [link.name for link in links]
        parameters = [link.parameters for link in links]
        parameters += [hyper for pair in self.pairs for hyper in pair.methods.values()]
        # Where nothing is relative to it, a suite does not say which machine it was read on.
        unused = set() if names_files([named, parameters]) else {PATHS_FROM}
        return as_yaml(self.model_dump(mode="json", exclude=unused))


def folder_of_paths(run: Path) -> Path | None:
    """Return the folder that the paths of a run's suite are relative to, None where it has no such path."""
    folder = field_of(run, PATHS_FROM, str)
    return None if folder is None else Path(folder)


def own_of(run: Path, field: Literal["metrics", "sections"]) -> tuple[str, ...]:
    """Return what a run's suite names of a user's own, as it is found; nothing where there is no suite."""
    if not (run / "suite.yaml").is_file():
        return ()
    names = field_of(run, field, list) or []
    return tuple(located(str(name), folder_of_paths(run)) for name in names)


def field_of(run: Path, field: str, kind: type) -> Any:
    """Return a field of a run's suite, None where it is not there; UserError where it is of another kind."""
    file = run / "suite.yaml"
    fields = YamlSource.read(file).value
    value = fields.get(field) if isinstance(fields, dict) else fields
    if not isinstance(value, kind | None):
        raise UserError(f"{file} is damaged: {field} is {shown(value)}.")
    return value


def suite_folder() -> Path:
    """Return the folder of the suites that ship with kdbench."""
    package = Path(__file__).parents[1]
    installed = package / "benchmarks"
    return installed if installed.is_dir() else package.parent / "benchmarks"


def suite_names() -> list[str]:
    """Return the names of the suites that ship with kdbench."""
    return sorted(file.stem for file in suite_folder().glob("*.yaml"))


def suite_file(path: str | Path) -> Path:
    """Return the file of a suite given by name or by path; raises UserError where there is none."""
    file = Path(path)
    if _is_file(path):
        try:
            if file.is_file():
                return file
        except OSError as error:  # such as a name that is too long
            raise UserError(f"no suite file at {file}: {error.strerror}.") from None
        raise UserError(f"no suite file at {file}. 'kdbench list suites' shows those that ship with kdbench.")
    if str(path) in suite_names():
        return suite_folder() / f"{path}.yaml"
    raise unknown("suite", str(path), suite_names())


def _is_file(path: str | Path) -> bool:
    """Return whether a suite is given by the path of its file."""
    return Path(path).suffix in (".yaml", ".yml")


def describe_mistake(error: ValidationError, source: YamlSource) -> str:
    """Say in one line what the first mistake is and where it stands."""
    details = error.errors()
    first = details[0]
    location = tuple(part for part in first["loc"] if not str(part).startswith(_OF_CHOICE))
    field = as_field(location) if location else "suite"
    kind = first["type"]
    if kind == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        text = f"unknown field '{as_field(location[-1:])}'.{nearest(str(location[-1]), allowed)}"
        text += "" if "Did you mean" in text else f" Known: {', '.join(sorted(allowed))}."
    elif kind == "missing":
        text = "the field is missing"
    else:
        opening = "" if isinstance(first["input"], dict) else f"found {shown(first['input'])}; "
        message = first["msg"].removeprefix("Value error, ")
        text = opening + message[0].lower() + message[1:]
        expected = first.get("ctx", {}).get("expected")
        if kind == "literal_error" and expected:
            text += "." + nearest(
                str(first["input"]), expected.replace("'", "").replace(" or ", ", ").split(", ")
            )
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{source.where(location)}: {field}: {text}{more}"


def _fields_at(location: Sequence[Any]) -> list[str]:
    """Return the names of the fields that may stand at a location of a suite."""
    models: dict[str, type[BaseModel]] = {
        "dataset": DatasetEntry,
        "model": ModelEntry,
        "teachers": TeacherEntry,
        "students": ModelEntry,
        "methods": MethodEntry,
        "chain": MethodEntry,
        "pairs": PairEntry,
        "recipe": Recipe,
        "measure": MeasureEntry,
        "controls": ControlsEntry,
        "independent_teacher": IndependentEntry,
        "robustness": RobustnessEntry,
        "imbalance": ImbalanceEntry,
        "augment": Augment,
        "taps": TapsEntry,
    }
    for part in reversed(location):
        if part in models:
            return list(models[part].model_fields)
    return list(Suite.model_fields)
