"""Words of the command line: values of ``--set``, names of models, options with what they do not take."""

from __future__ import annotations

import json
from collections.abc import Iterator

from harm.trial import SOUND, SUITE, Trial

FILES = {SUITE: json.dumps(SOUND)}
DEEP = "[" * 20_000

SETS = (
    *("", "=", "=1", "a", "a=1", ".=1", "..=1", ".a=1", "recipe.=1", "recipe..epochs=1", " =1"),
    *("recipe.epochs=", "recipe.epochs=null", "recipe.epochs=abc", "recipe.epochs=[", "recipe.epochs='"),
    *("recipe.epochs=1e999", "recipe.lr=.nan", "recipe.lr=-.inf", f"recipe.epochs={'9' * 5000}"),
    *("recipe.epochs=99999999999999999999", "threads=100000000", "threads=0", f"seeds=[{10**200}]"),
    *("recipe.epochs=!!python/object/apply:os.system [touch ../victim/executed]", "recipe=&a [*a]"),
    *(f"recipe.epochs={DEEP}", f"{'x' * 100_000}=1", f"{'a.' * 5_000}b=1", "recipe.epochs=2024-13-45"),
    *("seeds.²=1", "seeds.٣=1", "seeds.-1=0", "seeds.1=0", "seeds.99999999999999999999=0", "seeds.a=0"),
    *(f"seeds.{'9' * 5000}=0", "seeds=[0,0]", "seeds=[]", "seeds=3", "seeds.0.x=3", "name.x=3", "name=a/b"),
    *("name=../../x", "name=", f"name={'n' * 300}", "teachers=[]", "students.0.label=", "methods.0.name=1"),
    *('students.0={name: mlp_4, label: "\\e[2J"}', 'students.0={name: mlp_4, label: "a\\nb"}'),
    *('students.0={name: mlp_4, label: "\\ud800"}', "dataset=nobody", "dataset.name=\x1b[2J", "\udcff=1"),
    *("dataset.name=a\nb", "recipe.milestones=[-1]", "recipe={schedule: step, milestones: [-5]}"),
    *("dataset.imbalance.factor=1e300", "dataset.args.limit=-1", "dataset.args.limit=0"),
    *("dataset.args.size=1000000000", "dataset.args.channels=7", "dataset.args.mean=[1e300]"),
    *("dataset.args.std=[0]", "dataset.args.nobody=1", "dataset.validation_fraction=0.9999999"),
    *("methods.1={name: kd, temperature: 1.0e-9}", "methods.1={name: kd, nobody: 1}", "methods.1=kd2"),
    *(
        "students.0=mlp_0",
        "students.0={name: mlp_4, args: {nobody: 1}}",
        "measure.batch_sizes=[1000000000000]",
    ),
    *("robustness={corruptions: [nobody]}", "robustness={examples: 99999999999999999999}"),
    *("metrics=[nobody.py:x]", "sections=['os:system']", "metrics=['builtins:eval']", "inapplicable=maybe"),
)
SEEDS = ("", " ", "a", "0,,1", "0,0", "-1", "1.5", "9" * 300, "]", "0] #", "[0", "0]\nname: [x", "²", "null")
NAMES = (
    *("", " ", "nobody", "mlp_0", "mlp_-1", "mlp_", "mlp_1_0", "mlp_99999999999", f"mlp_{'9' * 5000}"),
    *(f"mlp{'_1' * 20_000}", "mlp_²", "resnet0", "resnet7", "resnet999998", f"resnet{'2' * 40}", "wrn_40_0"),
    *("wrn_41_1", "wrn_99999999_9999999", "cnn_0", "cnn_9999999999", "gru_0", "vit_0"),
    *("os:system", "os:_exit", "os.path:join", "posix:_exit", "subprocess:run", "builtins:eval", "sys:exit"),
    *("json:loads", "shutil:rmtree", "kdbench.cli:main", "this:s", "antigravity:x"),
    *("torch:load", "torch.hub:load", "torchvision:nobody", "torchvision:../../x", "torchvision:", "timm:x"),
    *(
        "hf:../../x",
        "hf:nobody/nothing",
        "hf:",
        "nobody_at_all:x",
        "a b.py:x",
        "missing.py:net",
        ":",
        "::",
        ":x",
    ),
    *("/dev/zero:net", "/dev/stdin:net", "/etc/passwd:root", ".:x", "..:x", "/:x", f"{SUITE}:x", "x.py:"),
    *(
        "x.py:a:b",
        "\x1b[2J",
        "a\nb",
        "x" * 100_000,
        f"{'../' * 5000}x.py:f",
        f"{'x' * 300}.py:f",
        "%s",
        "{0}",
    ),
    *("\udcff", "mlp_16 ", "MLP_16x", "--", "~nobody/x.py:f", "a" + ".b" * 20_000 + ":c"),
)
OPTIONS: dict[str, tuple[str, ...]] = {
    "run nobody": ("run", "nobody"),
    "run nobody.yaml": ("run", "nobody.yaml"),
    "run with 0 jobs": ("run", SUITE, "--jobs", "0"),
    "run with jobs that are no number": ("run", SUITE, "--jobs", "two"),
    "run on a quantum computer": ("run", SUITE, "--device", "quantum"),
    "run with an unknown executor": ("run", SUITE, "--executor", "nobody", "--out", "run"),
    "run with a function of os for executor": ("run", SUITE, "--executor", "os:system", "--out", "run"),
    "run with an executor of a missing file": ("run", SUITE, "--executor", "x.py:Y", "--out", "run"),
    "input of zeros": ("measure", "mlp_4", "--input", "0,0,0"),
    "negative input": ("measure", "mlp_4", "--input", "-1,8,8"),
    "input of two": ("measure", "mlp_4", "--input", "1,8"),
    "input of letters": ("measure", "mlp_4", "--input", "a,b,c"),
    "empty input": ("measure", "mlp_4", "--input", ","),
    "input of a raised two": ("measure", "mlp_4", "--input", "²,8,8"),
    "input too large": ("measure", "mlp_4", "--input", "3,9999999,9999999"),
    "input of 5000 digits": ("measure", "mlp_4", "--input", f"1,8,{'9' * 5000}"),
    "one class": ("measure", "mlp_4", "--classes", "1"),
    "too many classes": ("measure", "mlp_4", "--input", "1,8,8", "--classes", "99999999999999"),
    "batch of 0": ("measure", "mlp_4", "--input", "1,8,8", "--batch-sizes", "0"),
    "batch of letters": ("measure", "mlp_4", "--input", "1,8,8", "--batch-sizes", "x"),
    "no threads": ("measure", "mlp_4", "--input", "1,8,8", "--threads", "0"),
    "threads of a raised two": ("measure", "mlp_4", "--input", "1,8,8", "--threads", "²"),
    "a hundred million threads": ("measure", "mlp_4", "--input", "1,8,8", "--threads", "100000000"),
    "unknown runtime": ("measure", "mlp_4", "--input", "1,8,8", "--runtimes", "nobody"),
    "unknown precision": ("measure", "mlp_4", "--input", "1,8,8", "--precision", "fp64"),
    "repeat 0 times": ("measure", "mlp_4", "--repeat", "0"),
    "measure a run": ("measure", "/"),
    "export nobody": ("export", "nobody", "--to", "onnx"),
    "export a path upwards": ("export", "../../x", "--to", "onnx"),
    "export to pdf": ("export", "nobody", "--to", "pdf"),
    "export nothing": ("export", "", "--to", "onnx"),
    "compare nobody": ("compare", "nobody"),
    "compare nothing": ("compare",),
    "report of the root": ("report", "/"),
    "report of a device": ("report", "/dev/null"),
    "report of nothing": ("report", ""),
    "check a device": ("check", "/dev/null"),
    "check nothing": ("check", ""),
    "check a nul": ("check", "a\0b.yaml"),
    "list nobody": ("list", "nobody"),
    "evaluate on nobody": ("evaluate", "mlp_16", "--dataset", "nobody"),
    "evaluate with a bad override": ("evaluate", "mlp_16", "--dataset", "digits", "--set", "x"),
    "evaluate with an unknown field": ("evaluate", "mlp_16", "--dataset", "digits", "--set", "model.x=1"),
    "an unknown option": ("run", SUITE, "--nobody"),
    "an unknown command": ("nobody",),
    "a command with escapes": ("\x1b[2J",),
}
BUDGETS = ("", "abc", "0", "0GB", "-1GB", "1e999GB", "nan", "∞", "²GB", "9" * 5000, "1 XB")


# What is read as something harmless: a label on one line, a comment, a split that leaves one example.
HARMLESS = ('students.0={name: mlp_4, label: "a\\nb"}', "dataset.validation_fraction=0.9999999", "0] #")


def trials() -> Iterator[Trial]:
    """Yield every word with a command that reads it."""
    for option, given in (("--set", SETS), ("--seeds", SEEDS)):
        for number, word in enumerate(given):
            group, statuses = option.removeprefix("--"), (0, 2) if word in HARMLESS else (2,)
            plan = ("plan", SUITE, option, word)
            yield Trial(group, f"{number:02}", (plan,), FILES, statuses=statuses)
    for number, name in enumerate(NAMES):
        suite = json.dumps(SOUND | {"students": [name]})
        yield Trial("models", f"in-suite-{number:02}", (("check", SUITE),), {SUITE: suite})
        if name != "--":
            # Of what cannot be measured a table tells, with status 1.
            measure = ("measure", "--counts-only", "--input", "1,8,8", "--", name)
            yield Trial("models", f"measured-{number:02}", (measure,), FILES, statuses=(1, 2))
    for label, words in OPTIONS.items():
        statuses = (1, 2) if label in ("input too large", "too many classes") else (2,)
        yield Trial("options", label.replace(" ", "-"), (words,), FILES, statuses=statuses)
    for number, budget in enumerate(BUDGETS):
        yield Trial("options", f"budget-{number:02}", (("plan", SUITE, "--memory-budget", budget),), FILES)
