"""Results as one self-contained page: `svg` draws, `page` arranges; nothing is fetched from anywhere."""

from leanrec.evaluation.report.page import Material, RunFacts, render

__all__ = ["Material", "RunFacts", "render"]
