"""An experiment: what one command asks for, under a name, and the record of it from which its reports are made."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpv import paths
from sharpv.answering.cell import Cell
from sharpv.answering.store import SCHEMA
from sharpv.configuration import configure
from sharpv.configuration.budgets import Unreachable
from sharpv.files import write_whole

ASKED = ("rows", "budgets", "frames", "models", "benchmarks", "limit")


@dataclass(frozen=True)
class Experiment:
    """What a command asks for. kind: the report, by `table`. part: whether this is not all that the experiment of this
    table asks for; its report then has a name of its own. job: number within a sweep, None outside. unreachable: by
    model, the budgets that methods cannot have."""

    command: str
    kind: str
    title: str
    limit: int | None
    part: bool
    job: int | None = None
    unreachable: Mapping[str, Sequence[Unreachable]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: DictConfig,
        command: str,
        job: int | None = None,
        unreachable: Mapping[str, Sequence[Unreachable]] | None = None,
    ) -> "Experiment":
        return cls(command, config.table, config.title, config.limit, is_part(config), job, unreachable or {})

    def name(self, failed: bool) -> str:
        """Of the record and the report: that of the table only for the whole experiment without too many failures."""
        if self.job is not None:
            return f"{self.kind}_job{self.job}"
        named = self.kind in {experiment.table for experiment in _experiments()}
        return f"{self.kind}_partial" if named and (self.part or failed) else self.kind

    def write(self, cells: list[Cell], errors: list[int], failed: bool) -> Path:
        """Write the record: for each cell its folder, its rows with the keys of their answers, and what scores them."""
        path = paths.record_path(self.name(failed))
        record = {
            "schema": SCHEMA,
            "kind": self.kind,
            "title": self.title,
            "command": self.command,
            "limit": self.limit,
            "part": self.part and self.limit is None,
            "reported": datetime.now(UTC).isoformat(timespec="seconds"),
            "cells": [
                cell.record(self.command)
                | {"folder": os.path.relpath(cell.folder, path.parent), "errors": failures}
                | {"unreachable": [asdict(one) for one in self.unreachable.get(cell.model.name, [])]}
                for cell, failures in zip(cells, errors, strict=True)
            ],
        }
        write_whole(path, json.dumps(record))
        return path


def is_part(config: DictConfig) -> bool:
    """Whether a run asks for something else than all that the experiment of its table does, in any profile.

    A table that no experiment names belongs to whoever asks for it.
    """
    base: Any = OmegaConf.load(configure.CONFIGS / "config.yaml")
    profiles = [OmegaConf.load(path) for path in sorted((configure.CONFIGS / "profile").glob("*.yaml"))]
    wholes: list[Any] = [
        OmegaConf.merge(base, experiment, profile)
        for experiment in _experiments()
        if experiment.table == config.table
        for profile in profiles
    ]
    return bool(wholes) and all(any(whole.get(part) != config.get(part) for part in ASKED) for whole in wholes)


def _experiments() -> list[Any]:
    return [OmegaConf.load(path) for path in sorted((configure.CONFIGS / "experiment").glob("*.yaml"))]
