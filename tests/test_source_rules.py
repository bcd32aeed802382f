"""The C of src/ and the tree around it obey the house rules.

A rule is a function from files to complaints. Each is run on the tree, and on a small
offender that shows that it can fail.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the bottom to the top; a file includes its own layer and those below.
LAYERS = ("core", "py", "wire", "near", "pubsub", "store", "types", "module")
FILE_LINES = 650
FUNCTION_LINES = 80

Sources = Mapping[str, str]  # path below src/: text
Rule = Callable[[Sources], list[str]]


def tracked(*patterns: str) -> list[Path]:
    """The files under version control, or all of them in an unpacked sdist."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", *patterns],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        names = [ROOT / line for line in done.stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        names = [path for pattern in patterns for path in ROOT.rglob(pattern)]
    return sorted(path for path in names if path.is_file())


@pytest.fixture(scope="module")
def sources() -> Sources:
    base = ROOT / "src"
    found = {
        path.relative_to(base).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(base.rglob("*"))
        if path.suffix in (".c", ".h", ".def")
    }
    assert "module.c" in found
    return found


# --- reading C --------------------------------------------------------------------


@cache
def without_comments(text: str) -> str:
    """The same lines with comments, strings and characters blanked."""

    def blank(match: re.Match[str]) -> str:
        part = match.group()
        if part.startswith("/"):
            return re.sub(r"[^\n]", " ", part)
        return part[0] + " " * (len(part) - 2) + part[-1]

    token = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(token, blank, text, flags=re.DOTALL)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


@cache
def functions(text: str) -> list[tuple[str, int, str]]:
    """(name, line, body) of each function defined at the left margin, as clang-format
    leaves them: the name begins a line, the opening brace has one to itself."""
    code = without_comments(text)
    found = []
    for match in re.finditer(
        r"^(?!__attribute__)(\w+)\([^;{}]*\)\n\{\n", code, re.MULTILINE
    ):
        end = code.find("\n}\n", match.end() - 1)
        body = code[match.end() : end if end >= 0 else len(code)]
        found.append((match.group(1), line_of(code, match.start()), body))
    return found


def search(files: Sources, pattern: str, why: str) -> list[str]:
    """A complaint for each place where the pattern stands in code."""
    compiled = re.compile(pattern, re.MULTILINE)
    return [
        f"{path}:{line_of(code, match.start())}: {match.group().strip()}: {why}"
        for path, text in files.items()
        for code in [without_comments(text)]
        for match in compiled.finditer(code)
    ]


def includes(files: Sources) -> Iterator[tuple[str, str]]:
    for path, text in files.items():
        for name in re.findall(
            r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', text, re.MULTILINE
        ):
            yield path, name


def layer_of(path: str) -> str:
    return path.split("/", 1)[0] if "/" in path else path.split(".", 1)[0]


# --- the rules --------------------------------------------------------------------


def includes_point_one_way(files: Sources) -> list[str]:
    ranks = {name: rank for rank, name in enumerate(LAYERS)}
    bad = []
    for path, name in includes(files):
        if layer_of(path) not in ranks:
            bad.append(f"{path}: stands in no layer ({', '.join(LAYERS)})")
        elif "/" in name and layer_of(name) in ranks:
            if ranks[layer_of(name)] > ranks[layer_of(path)]:
                bad.append(f"{path} includes {name}, of a layer above")
        elif name.endswith(".h") and name in {p.rsplit("/", 1)[-1] for p in files}:
            bad.append(f"{path} includes {name} without its layer")
    return bad


def core_is_plain_c(files: Sources) -> list[str]:
    return [
        f"{path} includes {name}"
        for path, name in includes(files)
        if layer_of(path) == "core" and (name == "Python.h" or "hiredis" in name)
    ]


def wire_alone_includes_hiredis(files: Sources) -> list[str]:
    return [
        f"{path} includes {name}"
        for path, name in includes(files)
        if name.startswith("hiredis/") and layer_of(path) != "wire"
    ]


def engine_is_plain_c(files: Sources) -> list[str]:
    """The memory engine but for the file that makes it a store, headers of headers
    included."""
    wanted = {
        path
        for path in files
        if re.fullmatch(r"store/engine\w*\.[ch]", path)
        and not path.startswith("store/engine_store.")
    }
    bad = []
    for first in sorted(wanted):
        seen, todo = {first}, [first]
        while todo:
            path = todo.pop()
            for _, name in includes({path: files[path]}):
                if name == "Python.h":
                    bad.append(f"{first} includes Python.h, by way of {path}")
                if name in files and name not in seen:
                    seen.add(name)
                    todo.append(name)
    return bad


def files_are_short(files: Sources) -> list[str]:
    return [
        f"{path}: {lines} lines, {FILE_LINES} at most"
        for path, text in files.items()
        if (lines := text.count("\n")) > FILE_LINES
    ]


def functions_are_short(files: Sources) -> list[str]:
    return [
        f"{path}:{line}: {name} has {lines} lines, {FUNCTION_LINES} at most"
        for path, text in files.items()
        for name, line, body in functions(text)
        if (lines := body.count("\n") + 1) > FUNCTION_LINES
    ]


def no_reserved_identifiers(files: Sources) -> list[str]:
    """The compiler's and Python's own may be used, never defined: what is declared,
    #defined, or named as a member is looked at."""
    made = r"#\s*define\s+__\w+"
    declared = r"^[\w \t*]*\b(?!__attribute__|__extension__)__\w+(?=\s*[;=,\[])"
    return search(files, f"{made}|{declared}", "begins with two underscores")


def one_type_to_a_file(files: Sources) -> list[str]:
    return [
        f"{path}: {count} type specs, 1 at most"
        for path, text in files.items()
        if (count := len(re.findall(r"^(?:static )?PyType_Spec \w", text, re.M))) > 1
    ]


def shared_names_bear_the_prefix(files: Sources) -> list[str]:
    """Functions that are not static are seen by all files, and begin with redlane_."""
    bad = []
    for path, text in files.items():
        lines = without_comments(text).splitlines()
        for name, line, _ in functions(text):
            before = " ".join(lines[max(0, line - 3) : line - 1])
            head = re.split(r"[;}]", before)[-1]
            if "static" in head or "PyMODINIT_FUNC" in head:
                continue
            if not name.startswith("redlane_"):
                bad.append(f"{path}:{line}: {name} is neither static nor redlane_…")
    return bad


def every_file_says_its_job(files: Sources) -> list[str]:
    """A comment is the first thing in the file, or in the header of the same name."""
    bad = []
    for path, text in files.items():
        header = files.get(re.sub(r"\.c$", ".h", path), "")
        if not any(one.lstrip().startswith("/*") for one in (text, header)):
            bad.append(f"{path}: no comment at its head")
    return bad


def no_unsafe_calls(files: Sources) -> list[str]:
    names = "strcpy|strncpy|stpcpy|strcat|strncat|sprintf|vsprintf|gets|alloca|strtok"
    return search(files, rf"\b(?:{names}|atoi)\s*\(", "has no bound")


def no_static_objects(files: Sources) -> list[str]:
    return search(
        files,
        r"^\s*static\s+(?:const\s+)?Py(?:Type)?Object\s*\*?\s*\w+\s*(?:\[\w*\]\s*)?[;=]",
        "belongs in the module's state",
    )


def nogil_touches_no_python(files: Sources) -> list[str]:
    return [
        f"{path}:{line}: {name} uses {call}"
        for path, text in files.items()
        for name, line, body in functions(text)
        if name.endswith("_nogil")
        for call in re.findall(r"\b_?Py[A-Z]?\w*(?=\s*\()", body)
    ]


def state_fields_are_used(files: Sources) -> list[str]:
    names = re.findall(r"^\s+X\((\w+)\)", files.get("py/state.h", ""), re.MULTILINE)
    rest = "\n".join(
        without_comments(text) for path, text in files.items() if path != "py/state.h"
    )
    return [
        f"py/state.h: {name} is never used"
        for name in names
        if not re.search(rf"(?:->|\.){name}\b|SLOT\({name}\)", rest)
    ]


def no_work_in_asserts(files: Sources) -> list[str]:
    """An assert is compiled out: nothing in it may assign or step."""
    return search(
        files,
        r"\bassert\((?:[^;]*?(?:\+\+|--|[^=!<>]=[^=]))[^;]*;",
        "is not there in a release build",
    )


GOOD = """\
#include "core/a.h"

static int
b(void)
{
    return 1;
}

int
redlane_a(void)
{
    /* Never strcpy(a, b): "gets(" has no bound either. */
    assert(b() == 1);
    return b();
}
"""

RULES: dict[str, tuple[Rule, Sources]] = {
    rule.__name__: (rule, offender)
    for rule, offender in (
        (
            includes_point_one_way,
            {"core/a.h": '#include "py/b.h"\n', "py/b.h": "\n"},
        ),
        (core_is_plain_c, {"core/a.c": "#include <Python.h>\n"}),
        (wire_alone_includes_hiredis, {"store/a.c": '#include "hiredis/read.h"\n'}),
        (
            engine_is_plain_c,
            {
                "store/engine.c": '#include "store/engine.h"\n',
                "store/engine.h": '#include "py/p.h"\n',
                "py/p.h": "#include <Python.h>\n",
            },
        ),
        (files_are_short, {"core/a.c": "\n" * (FILE_LINES + 1)}),
        (
            functions_are_short,
            {"core/a.c": "int\nf(void)\n{\n" + "    g();\n" * 81 + "}\n"},
        ),
        (no_reserved_identifiers, {"core/a.c": "static int __x;\n"}),
        (
            one_type_to_a_file,
            {"types/a.c": "static PyType_Spec a = {0};\nPyType_Spec b = {0};\n"},
        ),
        (shared_names_bear_the_prefix, {"core/a.c": "int\nf(void)\n{\n}\n"}),
        (every_file_says_its_job, {"core/a.c": "int x;\n", "core/a.h": "int x;\n"}),
        (no_unsafe_calls, {"core/a.c": 'strcpy(a, "b");\n'}),
        (no_static_objects, {"py/a.c": "static PyObject *kept = NULL;\n"}),
        (
            nogil_touches_no_python,
            {"wire/a.c": "static void\nread_nogil(int a)\n{\n    Py_DECREF(a);\n}\n"},
        ),
        (state_fields_are_used, {"py/state.h": "    X(Gone) \\\n", "py/a.c": "\n"}),
        (no_work_in_asserts, {"core/a.c": "assert(i++ < 3);\n"}),
    )
}


@pytest.mark.parametrize("name", RULES)
def test_source_obeys(name: str, sources: Sources) -> None:
    rule, _ = RULES[name]
    assert rule(sources) == []


@pytest.mark.parametrize("name", RULES)
def test_rule_can_fail(name: str) -> None:
    rule, offender = RULES[name]
    assert rule(offender) != []


@pytest.mark.parametrize("name", RULES)
def test_rule_lets_good_code_pass(name: str) -> None:
    rule, _ = RULES[name]
    good = {
        "core/a.h": "/* A job. */\n#include <stdint.h>\n\nint redlane_a(void);\n",
        "core/a.c": GOOD,
        "py/state.h": "/* State. */\n",
    }
    assert rule(good) == []


# --- the tree ---------------------------------------------------------------------

UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work|tmp)/[\w.]")


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def complaints(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{line_of(text, match.start())}: {match.group()}"
        for path, text in texts()
        for match in pattern.finditer(text)
    ]


def test_nothing_is_left_unfinished() -> None:
    assert UNFINISHED.search("a TODO here")
    assert complaints(UNFINISHED) == []


def test_no_path_of_one_machine() -> None:
    assert MACHINE_PATH.search('open("/home/ann/x")')
    assert complaints(MACHINE_PATH) == []


def test_no_source_of_hiredis_is_tracked() -> None:
    assert [path for path, _ in texts() if path.startswith("vendor/")] == []


# --- the types --------------------------------------------------------------------

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
TYPES = (
    *("Client", "Pipeline", "Cache", "CachedFunction", "Counter", "VideoCache"),
    *("Subscription", "Message", "BytesMessage"),
    *("AsyncCache", "AsyncCounter", "AsyncVideoCache"),
    *("RateLimiter", "AsyncRateLimiter", "Decision"),
)


@pytest.mark.parametrize("name", TYPES)
def test_type_is_made_in_c(name: str) -> None:
    import redlane
    import redlane._core as core

    made = getattr(core, name)
    assert isinstance(made, type)
    assert made.__flags__ & HEAP_TYPE
    assert made.__module__ == "redlane"
    # A class statement leaves these; a spec does not.
    assert "__dict__" not in vars(made) or name == "CachedFunction"  # as a function has
    assert "__module__" not in vars(made) or not hasattr(made, "__firstlineno__")
    public = getattr(redlane, name, made)
    assert public is made
