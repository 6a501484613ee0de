"""Bytes of protobuf messages: counted and written."""
