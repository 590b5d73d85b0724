"""What does a C caller see?  The public functions of a program, and the header that documents them.

Sizes come first: from the free ones, which axes of the arguments bind, `NAME_extents` derives all
others and checks what must hold of them, with arithmetic that notices overflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.c.contract import PRODUCT_NAMES
from graphc.codegen.c.scalar import C
from graphc.codegen.clike import comment, spread
from graphc.codegen.extents import Axis, Layout
from graphc.codegen.program import Checked, Procedure, Storage
from graphc.codegen.status import Code
from graphc.dims import Compound, Extent
from graphc.origin import location

_WORDS_OF_C = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long main register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while
"""
_OWN_WORDS = "buffers extents got status strides wanted workspace wrong"
RESERVED = frozenset(f"{_WORDS_OF_C} {_OWN_WORDS}".split())
# Characters of a message, of which a C compiler need not take more than 4095.
MESSAGE = 400

STATUS = """\
#ifndef GRAPHC_STATUS
#define GRAPHC_STATUS
/* What a call returns, and the code of its status. */
enum graphc_code {
    GRAPHC_DONE = 0,
    GRAPHC_INDEX_OUT_OF_RANGE = 1,
    GRAPHC_EXTENTS_DO_NOT_FIT = 2,
    GRAPHC_CHECK_FAILED = 3,
    GRAPHC_DIVISION_BY_ZERO = 4,
    GRAPHC_UNFIT_MATRIX = 7
};

/* The first failure of a call: its code; which check or constraint failed, as a number that the
   message is found by; the index that was out of range, or where the check failed, or the extent
   that does not fit; and the extent that was wanted. All are 0 after a call that did not fail.
   After one that did, outputs hold nothing to rely on. */
typedef struct graphc_status {
    int64_t code, node, index, extent;
} graphc_status;
#endif"""


@dataclass(frozen=True)
class Signature:
    """The user's names: of the program, its inputs and dimensions; and how slots are filled.

    `donated` are the inputs over which an output may be written: their positions, and its.
    """

    name: str
    inputs: tuple[str, ...]
    dims: Mapping[str, str]
    layout: Layout
    donated: Mapping[int, int] = field(default_factory=dict)

    def extent(self, extent: Any) -> str:
        """An extent or a type in the user's names."""
        return re.sub(r"\w+", lambda found: self.dims.get(found[0], found[0]), str(extent))


@dataclass(eq=False)
class CFunction:
    """A procedure as a static function: what it takes, by keys, with the C of each parameter.

    Keys are ("operand", position), ("size", name), "workspace" and "status".
    """

    name: str
    parameters: dict[Any, str]
    text: str

    @property
    def can_fail(self) -> bool:
        return "status" in self.parameters


def identifier(text: str, taken: Iterable[str] = ()) -> str:
    """A name that C accepts and that is not taken."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    name = name if name[:1].isalpha() else f"x{name}"
    used = RESERVED.union(taken)
    while name in used:
        name += "_"
    return name


_CHECKED = {
    "checked_add": """\
static inline int64_t checked_add(int64_t a, int64_t b, int *wrong)
{
    if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) *wrong = 1;
    return (int64_t)((uint64_t)a + (uint64_t)b);
}""",
    "checked_multiply": """\
static inline int64_t checked_multiply(int64_t a, int64_t b, int *wrong)
{
    const int64_t product = (int64_t)((uint64_t)a * (uint64_t)b);
    if (a == -1 ? b == INT64_MIN : a != 0 && product / a != b) *wrong = 1;
    return product;
}""",
    "checked_divide": """\
static inline int64_t checked_divide(int64_t a, int64_t b, int *wrong)
{
    if (b == 0 || a == INT64_MIN) {
        *wrong = 1;
        return 0;
    }
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}""",
    "checked_modulo": """\
static inline int64_t checked_modulo(int64_t a, int64_t b, int *wrong)
{
    if (b == 0 || a == INT64_MIN) {
        *wrong = 1;
        return 0;
    }
    return a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
}""",
    "misfit": """\
static int64_t misfit(graphc_status *status, int64_t constraint, int64_t got, int64_t wanted)
{
    status->code = 2;
    status->node = constraint;
    status->index = got;
    status->extent = wanted;
    return 2;
}""",
} | {name: C.helpers[name].text for name in ("minimum", "maximum")}


def program_name(text: str) -> str:
    """A name for the program that no function of its text has."""
    others = (
        *("record", "floor_divide", "floor_modulo", "graphc_status", "graphc_code"),
        *("ALIGNED", "HAS_FMA", "HAS_SQRT", "SQRT"),
    )
    return identifier(text, (*C.helpers, *_CHECKED, *PRODUCT_NAMES, *others))


class _Steps:
    """Writes extents step by step, in arithmetic that sets `wrong` where there is no value."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.lines: list[str] = []
        self.known: dict[str, str] = {}
        self.can_fail = False

    def step(self, helper: str, *operands: str) -> str:
        """A name for what a helper gives."""
        checked = helper.startswith("checked_")
        self.can_fail |= checked
        listed = ", ".join([*operands, *(["&wrong"] if checked else [])])
        text = f"{self.interface.helper(helper)}({listed})"
        if text not in self.known:
            name = self.known[text] = f"e{len(self.known)}_"
            self.lines.append(f"const int64_t {name} = {text};")
        return self.known[text]

    def extent(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return self.number(extent)
        total = ""
        for monomial, coefficient in extent.terms:
            factors = [self.atom(atom) for atom, power in monomial for _ in range(power)]
            if coefficient != 1 or not factors:
                factors.append(self.number(coefficient))
            term = factors[0]
            for factor in factors[1:]:
                term = self.step("checked_multiply", term, factor)
            total = self.step("checked_add", total, term) if total else term
        return total

    def atom(self, atom: str | Compound) -> str:
        if isinstance(atom, str):
            return self.interface.sizes[atom]
        text, *others = map(self.extent, atom.arguments)
        for other in others:
            text = self.step(_CHECKED_OPERATORS[atom.operator], text, other)
        return text

    def number(self, value: int) -> str:
        if -(2**63) < value < 2**63:
            return str(value)
        self.can_fail = True
        self.lines.append("wrong = 1;")
        return "0"


_CHECKED_OPERATORS = {
    "floordiv": "checked_divide",
    "mod": "checked_modulo",
    "min": "minimum",
    "max": "maximum",
}


class Interface:
    """Writes the public functions of a program whose main procedure is `function`."""

    def __init__(
        self, signature: Signature, main: Procedure, function: CFunction, checks: Sequence[Checked]
    ) -> None:
        self.signature = signature
        self.main = main
        self.function = function
        self.checks = checks
        self.helpers: dict[str, str] = {}
        self.slots = signature.layout.slots
        taken: list[str] = []

        def name(text: str) -> str:
            taken.append(identifier(text, taken))
            return taken[-1]

        self.sizes = {slot: name(self.size_name(slot)) for slot in self.slots.free}
        self.inputs = [name(each) for each in signature.inputs]
        self.strides = {
            i: name(f"{self.inputs[i]}_strides") for i, s in enumerate(main.inputs) if s.strided
        }
        count = len(main.outputs)
        self.outputs = [name("out" if count == 1 else f"out{i}") for i in range(count)]

    def size_name(self, slot: str) -> str:
        """The user's name of a free extent; an axis that is an expression has none of its own."""
        found = re.fullmatch(r"raw(\d+)_(\d+)", slot)
        if found:
            return f"{self.signature.inputs[int(found[1])]}_axis{found[2]}"
        return self.signature.dims.get(slot, slot)

    # -- extents -----------------------------------------------------------------------------------

    def helper(self, name: str) -> str:
        self.helpers.setdefault(name, _CHECKED[name])
        return name

    def block(self, position: int | None, extents: Sequence[Extent], *lines: str) -> list[str]:
        """Lines that compute extents, as `got` and `wanted` or into a slot, and go on with `lines`.

        `wrong` tells in them whether there is a value in 64 bits.
        """
        steps = _Steps(self)
        values = [steps.extent(extent) for extent in extents]
        if position is not None and not steps.can_fail:
            lines = ()
            if not steps.lines:
                return [f"    extents[{position}] = {values[0]};"]
        if position is None:
            ends = [f"const int64_t got = {values[0]}, wanted = {values[1]};"]
        else:
            ends = [f"extents[{position}] = {values[0]};"]
        flag = ["int wrong = 0;"] if steps.can_fail else []
        rest = [line if flag else line.replace("wrong || ", "") for line in lines]
        inside = [*flag, *steps.lines, *ends, *rest]
        return ["    {", *(f"        {line}" for line in inside), "    }"]

    def demand(self, violated: str, constraint: int, got: Extent, wanted: Extent) -> list[str]:
        """Lines that report a violated constraint."""
        fail = f"return {self.helper('misfit')}(status, {constraint}, got, wanted);"
        return self.block(None, (got, wanted), f"if (wrong || {violated}) {fail}")

    def extents(self) -> str:
        """`NAME_extents`."""
        lines = []
        for number, name in enumerate(self.sizes.values()):
            lines.append(f"    const int64_t {name} = extents[{number}];")
        lines += ["    *status = (graphc_status){0, 0, 0, 0};"]
        for name in self.sizes.values():
            fail = f"return {self.helper('misfit')}(status, -1, {name}, 0);"
            lines.append(f"    if ({name} < 0) {fail}")
        for extent, divisor, number in self.slots.divisible:
            lines += self.demand("got % wanted != 0", number, extent, divisor)
        for first, second, number in self.slots.equal:
            lines += self.demand("got != wanted", number, first, second)
        for extent, number in self.slots.nonnegative:
            lines += self.demand("got < wanted", number, extent, 0)
        free = len(self.slots.free)
        derived = zip(self.slots.derived, self.slots.limits, strict=True)
        for position, ((_, extent), number) in enumerate(derived, free):
            fail = f"return {self.helper('misfit')}(status, {number}, 0, 0);"
            lines += self.block(position, (extent,), f"if (wrong) {fail}")
        if not self.slots.program_names:
            lines.append("    (void)extents;")
        lines.append("    return 0;")
        return self.defined("extents", "\n".join(lines))

    # -- functions ---------------------------------------------------------------------------------

    @property
    def prototypes(self) -> dict[str, str]:
        """The head of each public function, by what its name ends in."""
        name = self.signature.name
        inputs = []
        for position, storage in enumerate(self.main.inputs):
            inputs.append(f"const {_type(storage)} *{self.inputs[position]}")
            if storage.strided:
                inputs.append(f"const int64_t *{self.strides[position]}")
        outputs = [
            f"{_type(storage)} *{text}"
            for storage, text in zip(self.main.outputs, self.outputs, strict=True)
        ]
        sizes = [f"int64_t {text}" for text in self.sizes.values()]
        status = "graphc_status *status"
        places = ["void *const *buffers", "const int64_t *extents"]
        places += ["const int64_t *strides"] if self.strides else []
        places.append("void *workspace")
        heads = {
            "extents": (f"int64_t {name}_extents(", ["int64_t *extents", status]),
            "workspace": (f"int64_t {name}_workspace(", ["const int64_t *extents"]),
            "": (f"int64_t {name}(", [*places, status]),
            "call": (f"int64_t {name}_call(", [*sizes, *inputs, *outputs, places[-1], status]),
            "message": (f"const char *{name}_message(", [f"const {status}"]),
        }
        return {key: spread(opening, items, ")") for key, (opening, items) in heads.items()}

    def defined(self, key: str, body: str) -> str:
        return f"{self.prototypes[key]}\n{{\n{body}\n}}"

    def workspace(self) -> str:
        size = self.signature.layout.workspace
        if isinstance(size, int):
            return self.defined("workspace", f"    (void)extents;\n    return {size};")
        return self.defined("workspace", f"    return extents[{size[1]}];")

    def program(self) -> str:
        """`NAME`, with everything by position."""
        firsts: dict[int, int] = {}
        count = 0
        for position in self.strides:
            firsts[position] = count
            count += len(self.main.inputs[position].shape)
        arguments = self.arguments(
            "buffers[{}]".format, lambda position, axis: f"strides[{firsts[position] + axis}]"
        )
        names = ["buffers", "extents", *(["strides"] if self.strides else []), "workspace"]
        clear = "    *status = (graphc_status){0, 0, 0, 0};"
        lines = [*_ignored(names, arguments), clear, *self.run(arguments)]
        return self.defined("", "\n".join(lines))

    def call(self) -> str:
        """`NAME_call`, with a type for each argument."""
        named = [*self.inputs, *self.outputs]
        arguments = self.arguments(
            lambda position: named[position],
            lambda position, axis: f"{self.strides[position]}[{axis}]",
        )
        count = max(1, len(self.slots.program_names))
        given = ", ".join(self.sizes.values()) or "0"
        lines = [
            *_ignored([*named, *self.strides.values(), "workspace"], arguments),
            f"    int64_t extents[{count}] = {{{given}}};",
            f"    if ({self.signature.name}_extents(extents, status) != 0) return status->code;",
            *self.run(arguments),
        ]
        return self.defined("call", "\n".join(lines))

    def arguments(
        self, operand: Callable[[int], str], stride: Callable[[int, int], str]
    ) -> list[str]:
        """What the main procedure is called with."""
        found = []
        for key in self.function.parameters:
            if isinstance(key, str):
                found.append(key)
            elif key[0] == "operand":
                found.append(operand(key[1]))
            elif key[0] == "stride":
                found.append(stride(*key[1:]))
            else:
                found.append(f"extents[{self.slots.program_names.index(key[1])}]")
        return found

    def run(self, arguments: Sequence[str]) -> list[str]:
        name = self.function.name
        if self.function.can_fail:
            return ["    " + spread(f"return {name}(", arguments, ");", 1)]
        return ["    " + spread(f"{name}(", arguments, ");", 1), "    return 0;"]

    def message(self) -> str:
        """`NAME_message`: what failed, and where the user wrote it."""
        failures = [_failure(node) for node in self.checks]
        misfits = [_misfit(c, self.inputs) for c in self.signature.layout.constraints]
        lines = ["    const int64_t node = status->node;"]
        lines.append('    if (status->code == 0) return "no failure";')
        for code, texts in (("== 2", misfits), ("!= 2", failures)):
            for number, text in enumerate(texts):
                condition = f"status->code {code} && node == {number}"
                lines.append(f"    if ({condition}) return {_string(text)};")
        lines.append('    if (status->code == 2 && node == -1) return "an extent is negative";')
        lines.append('    return "a failure of unknown origin";')
        return self.defined("message", "\n".join(lines))

    # -- the header --------------------------------------------------------------------------------

    def header(self) -> str:
        """The text of the header."""
        name = self.signature.name
        heads = self.prototypes
        guard = f"GRAPHC_{name.upper()}_H"
        count = max(1, len(self.slots.program_names))
        parts = [
            "\n".join([f"/* {name}: written by graphc.", "", *self.described(), "*/"]),
            f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>",
            '#ifdef __cplusplus\nextern "C" {\n#endif',
            STATUS,
            f"/* The number of extents. */\n#define {name.upper()}_EXTENTS {count}",
            "/* Fill in the extents that follow from the free ones; check that all fit together.\n"
            f"   Returns 0 or the code of the status. */\n{heads['extents']};",
            "/* Bytes of the workspace, from all extents. It must be aligned as by malloc. If\n"
            f"   this is 0 none is needed. */\n{heads['workspace']};",
            "/* Run, with a type for each argument: fills in the extents itself. Returns 0 or the\n"
            f"   code of the status. */\n{heads['call']};",
            "/* The same by position: inputs, then outputs, and all extents filled in"
            f"{self.in_order()}.\n   Returns 0 or the code of the status. */\n{heads['']};",
            "/* What failed and where it was written, of a status that a call has filled in. */\n"
            f"{heads['message']};",
            "#ifdef __cplusplus\n}\n#endif",
            "#endif",
        ]
        return "\n\n".join(parts) + "\n"

    def in_order(self) -> str:
        """How `strides` are ordered, if there are any."""
        if not self.strides:
            return ""
        listed = ", then ".join(self.inputs[position] for position in self.strides)
        return f";\n   strides are those of each axis of {comment(listed)}"

    def described(self) -> list[str]:
        """Lines that say what buffers and extents are, and how to call."""
        lines = ["   Arrays, C-contiguous unless they have strides:"]
        storages = (*self.main.inputs, *self.main.outputs)
        names = [*self.inputs, *self.outputs]
        over = {self.inputs[i]: self.outputs[o] for i, o in self.signature.donated.items()}
        for position, (storage, text) in enumerate(zip(storages, names, strict=True)):
            shape = ", ".join(self.signature.extent(extent) for extent in storage.shape)
            notes = [f"strides in {self.strides[position]}"] if storage.strided else []
            notes += [f"may be the array {over[text]} as well"] if text in over else []
            what = f"{position}: {text}, {storage.kind}, {storage.dtype.name}[{shape}]"
            lines.append("   " + ", ".join([what, *notes]))
        if any(storage.dtype.name in _SIXTEEN for storage in storages):
            lines.append("   16-bit floats are passed as their bits.")
        if self.strides:
            lines += ["   Strides count elements, one for each axis; they may be 0 or negative."]
        lines.append(
            "   No output overlaps another array"
            + (", but for those that may be one array: it is updated in place." if over else ".")
        )
        lines += ["", "   Extents, of which those that are free come first:"]
        for position, slot in enumerate(self.slots.free):
            lines.append(f"   {position}: {self.sizes[slot]}, free")
        for position, (slot, extent) in enumerate(self.slots.derived, len(self.slots.free)):
            uses = self.uses(position) or [self.signature.dims.get(slot, slot)]
            lines.append(f"   {position}: {self.signature.extent(extent)}, {', '.join(uses)}")
        if not self.slots.program_names:
            lines.append("   none")
        return [comment(line) for line in (*lines, "", *_PROMISES, "", *self.example())]

    def example(self) -> list[str]:
        """A call, as a user would write it."""
        name = self.signature.name
        free = ", ".join(self.sizes.values())
        named = [*self.sizes.values()]
        for position, text in enumerate(self.inputs):
            named += [text, *([self.strides[position]] if position in self.strides else [])]
        listed = [*named, *self.outputs, "workspace", "&status"]
        call = spread(f"if ({name}_call(", listed, ") != 0)", 2).split("\n")
        call.append(f"        puts({name}_message(&status));")
        return [
            "   A call:",
            "       graphc_status status;",
            f"       int64_t extents[{name.upper()}_EXTENTS] = {{{free or 0}}};",
            f"       if ({name}_extents(extents, &status) != 0) puts({name}_message(&status));",
            f"       void *workspace = malloc((size_t){name}_workspace(extents));",
            f"       {call[0]}",
            *(f"       {line.removeprefix('    ')}" for line in call[1:]),
            "       free(workspace);",
        ]

    def uses(self, slot: int) -> list[str]:
        """What a derived extent is."""
        layout = self.signature.layout

        def is_slot(axis: Axis) -> bool:
            return not isinstance(axis, int) and axis == ("slot", slot)

        found = [
            f"axis {i} of {name}"
            for name, axes in zip(self.outputs, layout.outputs, strict=True)
            for i, axis in enumerate(axes)
            if is_slot(axis)
        ]
        found += ["bytes of workspace"] if is_slot(layout.workspace) else []
        return [*found, *(["operations"] if is_slot(layout.work) else [])]


_SIXTEEN = ("float16", "bfloat16")

# What a caller may count on, and must see to.
_PROMISES = (
    "   Functions keep no state and allocate nothing: threads may call them at the same time, each",
    "   with a workspace and outputs of its own. Extents are checked, against each other and for",
    "   overflow; pointers are not: status is never null, arrays have the extents that are passed,",
    "   and are aligned to their elements. Integers have two's complement, floats are IEEE 754;",
    "   the order of bytes does not matter. Bytes of an array, and strides, fit a pointer.",
)


def _ignored(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Statements that name the parameters which no argument does."""
    used = {word for argument in arguments for word in re.findall(r"\w+", argument)}
    return [f"    (void){name};" for name in names if name not in used]


def _type(storage: Storage) -> str:
    return C.memory_type(storage.dtype.name)


def _failure(checked: Checked) -> str:
    """What to say of a check that failed."""
    node = checked.node
    demand = getattr(node.op.lowering, "demand", None)
    what = demand.message if demand is not None else node.attrs.get("message")
    what = what or getattr(node.op.lowering, "refusal", None)
    if not what:
        what = f"an index is out of range for axis {checked.axis}"
    where = location(node.origin)
    return f"{what} ({node.op.name}{' built at ' if where else ''}{where})"


def _misfit(constraint: Any, inputs: Sequence[str]) -> str:
    what = "the extents do not fit together"
    if constraint.position is not None:
        what = f"the extents of {inputs[constraint.position]} do not fit"
    where = location(constraint.node.origin) if constraint.node is not None else ""
    return f"{what} (demanded at {where})" if where else what


def _string(text: str) -> str:
    """A string literal; what is not plain ASCII is escaped, and "?", which makes trigraphs."""
    data = text[:MESSAGE].encode()
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in data]
    return f'"{"".join(plain)}"'


assert Code.CONSTRAINT_VIOLATED == 2, "the code that `misfit` records"
