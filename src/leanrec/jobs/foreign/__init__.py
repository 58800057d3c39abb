"""Trained models from elsewhere: one contract (`base.Importer`), one file per kind, by name in `IMPORTERS`."""

from leanrec.core.registry import Entry, Registry
from leanrec.jobs.foreign.base import Imported, Importer

__all__ = ["IMPORTERS", "Imported", "Importer"]

IMPORTERS: Registry[Importer] = Registry(
    "kind of model to import",
    {
        "implicit": Entry("leanrec.jobs.foreign.implicit:ImplicitFactors", "the .npz that implicit's models save"),
        "rectools": Entry("leanrec.jobs.foreign.rectools:RecToolsVectors", "RecTools' vectors and ids, as .npz"),
        "torch": Entry("leanrec.jobs.foreign.weights:TorchWeights", "safetensors weights of any torch module"),
    },
)
