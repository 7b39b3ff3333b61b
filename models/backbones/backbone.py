"""The frozen model: pictures to penultimate features and original logits, never trained here."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.backbones.images import as_rgb
from models.backbones.networks import BackboneSpec, Recipe, build, published_classes
from models.backbones.stored import check, fingerprint_of, read_model, refused_if_unfit, write_model
from models.errors import ConfigError, ImageError, ShapeError
from models.networks.cosine_head import CosineLinear


class _BackboneCard(BaseModel):
    model_config = ConfigDict(frozen=True)

    spec: BackboneSpec
    recipe: Recipe
    class_names: tuple[str, ...] | None
    num_outputs: int = Field(ge=1, le=1_000_000)
    fingerprint: str


class Backbone:
    """A network in evaluation mode without gradients.

    Args:
        network: images to logits, (N, 3, H, W) to (N, K).
        spec: what it was made from.
        recipe: how pictures become its inputs.
        class_names: what its head tells apart; None where that is not the project's classes.
        device: where it runs.
    Raises: ConfigError: if the penultimate layer cannot be found.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spec: BackboneSpec,
        recipe: Recipe,
        class_names: tuple[str, ...] | None,
        device: str = "cpu",
    ) -> None:
        self.spec = spec
        self.recipe = recipe
        self.class_names = class_names
        self.device = torch.device(device)
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._layer, self._takes_input = _penultimate(network, spec.feature_layer)
        # The hook of one call must not hear another thread's batch.
        self._one_at_a_time = threading.Lock()
        self._mean = torch.tensor(recipe.mean).view(3, 1, 1)
        self._std = torch.tensor(recipe.std).view(3, 1, 1)
        self.fingerprint = _fingerprint(network, spec, recipe)
        size = recipe.input_size
        features, logits = self._forward(torch.zeros(1, 3, size, size))
        self.feature_size = features.shape[1]
        if class_names is not None and logits.shape[1] != len(class_names):
            raise ConfigError(
                f"the network has {logits.shape[1]} outputs for {len(class_names)} class names; "
                "expected one output for each"
            )
        self._num_outputs = logits.shape[1]

    @property
    def input_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.recipe.input_size

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted from each channel on [0, 1]."""
        return self.recipe.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """What each channel is divided by."""
        return self.recipe.std

    @property
    def network(self) -> nn.Module:
        """The frozen network itself; a fine-tune starts from a copy."""
        return self._network

    @property
    def own_classes(self) -> tuple[str, ...] | None:
        """What its head tells apart, the project's classes or others; None where nobody knows."""
        return self.class_names or published_classes(self.spec)

    def linear_head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Its head as (D, C) weight and (C,) bias on the penultimate features.

        None where the logits are not such a function of them.
        """
        if not self._takes_input or not isinstance(self._layer, nn.Linear):
            return None
        if isinstance(self._layer, CosineLinear):
            return None
        weight = self._layer.weight.detach().float().cpu()
        bias = torch.zeros(len(weight))
        if self._layer.bias is not None:
            bias = self._layer.bias.detach().float().cpu()
        size = self.recipe.input_size
        features, logits = self._forward(torch.zeros(1, 3, size, size))
        found = features.float().cpu() @ weight.T + bias
        if found.shape != logits.shape or not torch.allclose(
            found, logits.float().cpu(), rtol=1e-3, atol=1e-3
        ):
            return None  # something comes after the last Linear
        return weight.T.numpy(), bias.numpy()

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture to (3, H, W) float32, as the network is fed.

        Raises: ImageError: if its pixels cannot be decoded.
        """
        return self.scaled(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture to (3, H, W) uint8: upright, RGB, resized with antialiasing, center crop.

        Raises: ImageError: if its pixels cannot be decoded.
        """
        size, shorter = self.recipe.input_size, self.recipe.resize
        rgb = as_rgb(image, at_least_px=2 * shorter)
        width, height = rgb.size
        scale = shorter / min(width, height)
        to = (max(size, round(width * scale)), max(size, round(height * scale)))
        if max(to) > 100 * size:
            raise ImageError(f"the image of {width} x {height} pixels is too narrow to be judged")
        if to != rgb.size:
            rgb = rgb.resize(to, Image.Resampling.BILINEAR, reducing_gap=2.0)
        left, top = (to[0] - size) // 2, (to[1] - size) // 2
        rgb = rgb.crop((left, top, left + size, top + size))
        pixels = torch.from_numpy(np.array(rgb, dtype=np.uint8))  # (H, W, 3)
        return pixels.permute(2, 0, 1).contiguous()

    def scaled(self, pixels: Tensor) -> Tensor:
        """(3, H, W) or (N, 3, H, W) uint8 to float32, as the network is fed."""
        values = pixels.to(torch.float32).div_(255)
        return values.sub_(self._mean).div_(self._std)

    def embed(self, batch: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Features (N, D) and original logits (N, K) of (N, 3, H, W) inputs.

        Logits are None where the head is not over the project's classes.
        Raises: ShapeError: if the batch has another shape.
        """
        if batch.ndim != 4 or batch.shape[1] != 3:
            raise ShapeError(f"found a batch of shape {tuple(batch.shape)}, expected (N, 3, H, W)")
        features, logits = self._forward(batch)
        head = None if self.class_names is None else logits.float().cpu().numpy()
        return features.float().cpu().numpy(), head

    def save(self, folder: Path) -> None:
        """Write weights and card into a new folder, which appears whole or not at all."""
        card = _BackboneCard(
            spec=self.spec,
            recipe=self.recipe,
            class_names=self.class_names,
            num_outputs=self._num_outputs,
            fingerprint=self.fingerprint,
        )
        write_model(folder, card, self._network)

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> Backbone:
        """Read what ``save`` wrote.

        Raises: CorruptVersion: if files are missing or are not those that were saved.
        """
        card, state = read_model(folder, _BackboneCard)
        blank = card.spec.model_copy(
            update={"weights": "none", "num_classes": card.num_outputs, "class_names": None}
        )
        with refused_if_unfit(folder):
            network, _, _ = build(blank)
            network.load_state_dict(state)
            loaded = cls(
                network,
                spec=card.spec,
                recipe=card.recipe,
                class_names=card.class_names,
                device=device,
            )
        check(loaded, card.fingerprint, folder)
        return loaded

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append(inputs[0])

        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append(output)

        with self._one_at_a_time, torch.inference_mode():
            if self._takes_input:
                handle = self._layer.register_forward_pre_hook(before)
            else:
                handle = self._layer.register_forward_hook(after)
            try:
                logits = self._network(batch.to(self.device))
            finally:
                handle.remove()
        if not found:
            raise ConfigError("the penultimate layer is not used by the network; name another one")
        features = found[-1]
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        return features.flatten(1), logits


def load_backbone(spec: BackboneSpec, *, device: str = "cpu") -> Backbone:
    """Make the frozen model a specification asks for.

    Raises:
        ConfigError: if nothing is called so, or its penultimate layer cannot be found.
        WeightsError: if its weights cannot be had.
    """
    network, recipe, names = build(spec)
    return Backbone(network, spec=spec, recipe=recipe, class_names=names, device=device)


def _penultimate(network: nn.Module, name: str | None) -> tuple[nn.Module, bool]:
    """The layer to listen to, and whether to its input (True) or its output."""
    layers = dict(network.named_modules())
    if name is not None:
        if name not in layers or name == "":
            raise ConfigError(
                f"found no layer {name!r}; the last ones are {', '.join(list(layers)[-8:])}"
            )
        return layers[name], False
    linear = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ConfigError(
            "the network has no Linear layer; set RAREFIRST_FEATURE_LAYER to the name of its "
            f"penultimate layer, one of {', '.join(list(layers)[-8:])}"
        )
    return linear[-1], True


def _fingerprint(network: nn.Module, spec: BackboneSpec, recipe: Recipe) -> str:
    """sha256 of everything that decides the features."""
    about: list[object] = [spec.architecture, spec.feature_layer, recipe.model_dump(mode="json")]
    # A cosine head must not pass for a linear one; other fingerprints stay what they were.
    about += ["cosine", spec.head_scale] if spec.head == "cosine" else []
    return fingerprint_of(about, network)
