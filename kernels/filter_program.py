"""The steps of a filter program: what the filter's compiler writes and the filter kernels run.

A program is postfix: a term pushes a set, an operator replaces the sets on top. A step is 4 integers:

    opcode      a           b              c
    NOOP        -           -              -            padding
    CONSTANT    0 or 1      -              -            no item, or every item
    MATCH       field       first value    values       the item has any of the values; signature rows may lie
    PLANE       field       first value    values       the same; signature rows are exact
    RANGE       field       first value    -            values[b] <= the item's integer <= values[b + 1]
    EXISTS      field       -              -            the item has the field
    AND, OR     -           -              -            of the two sets on top
    NOT         -           -              -            of the set on top
    AT_LEAST    operands    count          -            items in at least `count` of the sets on top

Values stand in a table beside the steps: an int64 for the exact columns, and the rows of the signature that
are set for it. Row f of the signature is set where an item has field f.
"""

from enum import IntEnum


class Op(IntEnum):
    NOOP = 0
    CONSTANT = 1
    MATCH = 2
    PLANE = 3
    RANGE = 4
    EXISTS = 5
    AND = 6
    OR = 7
    NOT = 8
    AT_LEAST = 9


STEP = 4
