"""Callers' own unary protobuf protocols, declared in TOML and served by the model."""
