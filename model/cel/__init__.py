"""CEL texts (https://github.com/google/cel-spec): the common part of the languages of filters and formulas."""
