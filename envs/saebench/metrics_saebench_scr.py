"""Spurious correlation removal by the real SAEBench."""

from scr_and_tpp import MODEL_FREE, fill, run

__all__ = ["MODEL_FREE", "fill", "run"]
