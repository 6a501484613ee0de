"""CEL texts (https://github.com/google/cel-spec): what the languages of filters and formulas share."""
