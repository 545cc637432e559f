"""What a fit keeps of itself, so that a kill costs the steps since then and changes nothing.

Always true of a fit that goes on: weights, the optimiser's moments and torch's random state are those of the step that
was kept, of the same data and recipe; anything else that is found is left aside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import fusiontrade
from serving.kronos.training.config import Recipe
from serving.training.bundle import libraries

__all__ = ["Keeper", "identity_of"]


@dataclass(frozen=True)
class Keeper:
    """Keeps the state of one fit in ``path`` after every ``every`` steps and the last; ``identity`` says which fit."""

    path: Path
    identity: str
    every: int

    def keep(self, step: int, late: float, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write the state after ``step``, in place of the one before."""
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"moments.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors["random"] = torch.get_rng_state()
        said = {"state": json.dumps({"identity": self.identity, "step": step, "late": late})}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".fresh")
        save_file({name: value.contiguous() for name, value in tensors.items()}, fresh, said)
        fresh.replace(self.path)

    def resume(self, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
        """Bring everything to where it was kept; return the steps that are done, 0 for none, and the loss of late."""
        if not self.path.is_file():
            return 0, 0.0
        try:
            with safe_open(self.path, framework="pt") as stored:
                said = json.loads(stored.metadata()["state"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a mapping
        except SafetensorError:
            return 0, 0.0
        if said["identity"] != self.identity:
            return 0, 0.0
        network.load_state_dict(_below("network.", tensors))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below("moments.", tensors).items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        torch.set_rng_state(tensors["random"])
        return said["step"], said["late"]

    def forget(self) -> None:
        """Remove what was kept, and its folder where nothing else is in it."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def identity_of(recipe: Recipe, data: str) -> str:
    """Return what a recipe, data of the fingerprint ``data`` and the versions that compute come to."""
    said = {"recipe": asdict(recipe), "data": data, "code": fusiontrade.__version__, "libraries": libraries()}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
