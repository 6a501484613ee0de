"""A method with fixed answers, which the mapping contains, such as one that describes the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.strictness import Check, unread
from meshfold.compat.mapped.values import Scope, Value, value_of
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.service.call import Answer, Call

_KINDS = ("string", "integer", "bool")
# (required values of a request, the bytes of the answer).
_Case = tuple[Sequence[tuple[Value, Any]], bytes]


class FixedAnswer:
    """The adapter of a method with fixed answers."""

    def __init__(
        self,
        method: str,
        descriptor: MethodDescriptor,
        pool: DescriptorPool,
        cases: Sequence[_Case],
        check: Check,
    ) -> None:
        """cases: the first whose required values match answers a request. check: raises InvalidQuery."""
        self.METHOD = method
        self.POOL = pool
        self.descriptor = descriptor
        self._parse = _parser(descriptor.input_type)
        self._cases, self._check = cases, check

    def around(self, _: Answer) -> Answer:
        """Returns the fixed answer in place of the model's."""

        async def call(call: Call) -> bytes:
            return self.answer(call.message)

        return call

    def answer(self, message: bytes) -> bytes:
        """Answers a request. Raises InvalidQuery for bytes that cannot be parsed, UnknownName where no case matches."""
        parsed = self._parse(message)
        self._check(parsed, {})
        for wanted, content in self._cases:
            # An unset field counts as its zero value.
            if all((value.read(parsed, {}) or type(held)()) == held for value, held in wanted):
                return content
        sought = {value.name: value.read(parsed, {}) for wanted, _ in self._cases for value, _ in wanted}
        texts = ", ".join(f"{name} {str(held)[:64]!r}" for name, held in sought.items())
        known = "; ".join(
            " and ".join(f"{v.name} {held!r}" for v, held in wanted) for wanted, _ in self._cases
        )
        raise UnknownName(f"nothing is served for {texts}; served: {known:.400}")


def fixed_answer(name: str, part: Part, descriptor: MethodDescriptor, protocol: Protocol) -> FixedAnswer:
    """Compiles `fixed`: one table that answers every request, or several {when, answer} that answer only matching ones.
    Raises InvalidMapping."""
    fixed = part.table({"fixed"})["fixed"]
    scope = Scope(descriptor.input_type, protocol)
    if not isinstance(fixed.raw, list):
        only: _Case = ((), _encoded(fixed, descriptor.output_type, protocol))
        return FixedAnswer(name, descriptor, protocol.pool, [only], lambda *_: None)
    cases: list[_Case] = []
    for entry in fixed.entries():
        table = entry.table({"when", "answer"}, ("when", "answer"))
        wanted = [_wanted(table["when"], text, scope) for text in table["when"].table()]
        cases.append((wanted, _encoded(table["answer"], descriptor.output_type, protocol)))
    return FixedAnswer(name, descriptor, protocol.pool, cases, unread(scope))


def _wanted(part: Part, text: str, scope: Scope) -> tuple[Value, Any]:
    each = part[text]
    value = value_of(Part(each.file, each.lines, each.key, text), scope, _KINDS)
    kind = {"string": str, "integer": int, "bool": bool}[value.kind]
    if type(each.raw) is not kind:
        raise each.error(f"must be of kind {value.kind}, got {each.raw!r}")
    return value, each.raw


def _encoded(part: Part, message: Descriptor, protocol: Protocol) -> bytes:
    """The bytes of an answer written in protobuf's JSON names."""
    made = GetMessageClass(message)()
    part.table()
    try:
        json_format.ParseDict(part.raw, made, descriptor_pool=protocol.pool)
        content: bytes = made.SerializeToString(deterministic=True)
    except Exception as error:
        raise part.error(f"is no {message.full_name}: {' '.join(str(error).split()):.300}") from None
    return content


def _parser(message: Descriptor) -> Callable[[bytes], Any]:
    kind = GetMessageClass(message)

    def parse(content: bytes) -> Any:
        try:
            return kind.FromString(content)
        except (DecodeError, RecursionError):
            raise InvalidQuery("request", f"the bytes are not a {message.full_name}") from None

    return parse
