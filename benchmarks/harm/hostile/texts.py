"""Suites that are no YAML, or YAML that is made to do harm."""

from __future__ import annotations

import json
from collections.abc import Iterator

from harm.trial import OUTSIDE, SOUND, SUITE, Trial

TOUCH = f"touch {OUTSIDE}/executed"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
WHOLE = json.dumps(SOUND)
# The suite up to its last brace, for one more field.
OPEN = WHOLE[:-1]

TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "comment": "# nothing\n",
    "scalar": "3",
    "list": "[1, 2]",
    "null": "null",
    "two-documents": f"{WHOLE}\n---\n{WHOLE}\n",
    "nul": "name: a\0b\n",
    "binary": bytes(range(256)) * 20,
    "utf-16": WHOLE.encode("utf-16"),
    "not-utf-8": b"name: \xff\xfe\xfa\n",
    "tabs": "name:\n\t- a\n",
    "open-quote": 'name: "a\n',
    "open-bracket": "name: [a\n",
    "lists-20000-deep": f"{OPEN}, description: {'[' * 20_000}{']' * 20_000}}}",
    "mappings-20000-deep": f"{OPEN}, description: {'{a: ' * 20_000}{'}' * 20_000}}}",
    "lists-200-deep": f"{OPEN}, description: {'[' * 200}{']' * 200}}}",
    "args-900-deep": WHOLE.replace('{"limit"', f'{{"x": {"[" * 900}{"]" * 900}, "limit"'),
    "indented-3000-deep": "\n".join(" " * depth + "a:" for depth in range(3000)),
    "sequences-5000-deep": "- " * 5000 + "a",
    "aliases-that-multiply": BOMB,
    "aliases-that-multiply-in-args": f"{BOMB}{WHOLE[1:-1]}".replace('"name": "s"', "name: s"),
    "holds-itself": "a: &a {b: *a}\n",
    "list-that-holds-itself": f"{OPEN}, seeds2: &a [*a]}}",
    "args-that-hold-themselves": WHOLE.replace('{"limit"', '&a {"x": *a, "limit"'),
    "unknown-alias": "name: *nobody\n",
    "merge-of-scalar": "<<: 3\nname: a\n",
    "merge-of-itself": "&a {<<: *a}\n",
    "merges-that-multiply": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 10)}]}}\n" for n in range(9)),
    "keys-150000": "".join(f"k{n}: 0\n" for n in range(150_000)),
    "keys-150000-in-args": OPEN.replace(
        '{"limit"', "{" + "".join(f"k{n}: 0, " for n in range(150_000)) + '"limit"'
    )
    + "}",
    "items-300000": WHOLE.replace('"seeds": [0]', f'"seeds": {list(range(300_000))}'),
    "students-20000": WHOLE.replace('["mlp_4"]', json.dumps([f"mlp_{n}" for n in range(1, 20_000)])),
    "same-seed-100000-times": WHOLE.replace('"seeds": [0]', f'"seeds": {[0] * 100_000}'),
    "key-twice": "name: a\nname: b\n",
    "key-is-list": "? [a, b]\n: c\n",
    "key-is-mapping": "? {a: b}\n: c\n",
    "key-is-number": f"{OPEN}, 3: 4}}",
    "key-is-null": f"{OPEN}, null: 4}}",
    "key-is-nan": f"{OPEN}, .nan: 4}}",
    "key-is-date": f"{OPEN}, 2024-13-45: 4}}",
    "key-of-100000-letters": f"{OPEN}, {'k' * 100_000}: 4}}",
    "key-with-escapes": f'{OPEN}, "\\e[2J\\n\\x07": 4}}',
    "key-is-surrogate": f'{OPEN}, "\\ud800": 4}}',
    "date-that-does-not-exist": f"{OPEN}, threads: 2024-13-45}}",
    "date": f"{OPEN}, threads: 2024-02-30T25:61:61Z}}",
    "explicit-date": f'{OPEN}, threads: !!timestamp "2024-13-45"}}',
    "integer-of-5000-digits": f"{OPEN}, threads: {'9' * 5000}}}",
    "hexadecimal-of-10000-digits": f"{OPEN}, threads: 0x{'f' * 10_000}}}",
    "octal-that-is-none": f"{OPEN}, threads: !!int 0o99}}",
    "integer-that-is-none": f"{OPEN}, threads: !!int abc}}",
    "float-that-is-none": f"{OPEN}, threads: !!float abc}}",
    "bool-that-is-none": f"{OPEN}, threads: !!bool 7}}",
    "infinite": f"{OPEN}, threads: .inf}}",
    "too-large-for-a-float": f"{OPEN}, threads: 1e999}}",
    "not-a-number-in-args": WHOLE.replace('{"limit"', '{"mean": [.nan], "limit"'),
    "seed-of-200-digits": WHOLE.replace('"seeds": [0]', f'"seeds": [{10**200}]'),
    "python-call": f'{OPEN}, description: !!python/object/apply:os.system ["{TOUCH}"]}}',
    "python-call-as-name": f'name: !!python/object/apply:os.system ["{TOUCH}"]\n',
    "python-name": "name: !!python/name:os.system\n",
    "python-module": "name: !!python/module:antigravity\n",
    "python-object": "name: !!python/object/new:os._wrap_close [1]\n",
    "python-tuple": "name: !!python/tuple [1]\n",
    "unknown-tag": "name: !nobody x\n",
    "local-tag-of-2000-letters": f"name: !{'x' * 2000} x\n",
    "binary-tag": "name: !!binary '===='\n",
    "set-tag": f"{OPEN}, seeds2: !!set {{a, b}}}}",
    "omap-tag": f"{OPEN}, seeds2: !!omap [a: 1, a: 2]}}",
    "pairs-tag": f"{OPEN}, seeds2: !!pairs 3}}",
    "yaml-3": "%YAML 3.0\n---\nname: a\n",
    "yaml-99999": f"%YAML {'9' * 5000}.0\n---\nname: a\n",
    "unknown-directive": "%NOBODY x\n---\nname: a\n",
    "text-of-10-million": f'{OPEN}, nobody: "{"x" * 10_000_000}"}}',
    "escape-of-10-digits": '"\\U99999999"',
    "reserved-sign": "name: @a\n",
    "backquote": "name: `a`\n",
}


def trials() -> Iterator[Trial]:
    """Yield them, each with ``check`` and ``plan``."""
    commands = (("check", SUITE), ("plan", SUITE))
    for label, text in TEXTS.items():
        yield Trial("texts", label, commands, {SUITE: text})
