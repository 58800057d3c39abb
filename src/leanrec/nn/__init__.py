"""Torch building blocks: tables, packing, transformer blocks."""
