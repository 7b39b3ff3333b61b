"""From a specification to a network with weights: the table of architectures."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.error import URLError

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as zoo

from models.errors import ConfigError, WeightsError
from models.networks import Cnn4, ResNet32, efficientnet_lite
from models.networks.cosine_head import CosineLinear, last_linear, replace_last_linear
from models.networks.trunk5 import Trunk5

logger = logging.getLogger(__name__)

BACKBONES: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "cnn4": Cnn4,
        "resnet32": ResNet32,
        "trunk5": Trunk5,
        efficientnet_lite.NAME: efficientnet_lite.efficientnet_lite0,
    }
)
"""Our own networks, from K to a network; every torchvision classifier goes by its name too."""

HeadKind = Literal["own", "linear", "cosine"]
COSINE_SCALE = 30.0

# A network takes memory for its input before a picture is there.
_LARGEST_PX = 4096
_GREY = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_REFUSED = frozenset({"googlenet", "inception_v3"})


def architectures() -> tuple[str, ...]:
    """Every architecture that goes by its name: ours first, then torchvision's."""
    known = (name for name in zoo.list_models(module=zoo) if name not in _REFUSED)
    return (*BACKBONES, *sorted(known))


class BackboneSpec(BaseModel):
    """Which frozen model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(
        default="cnn4", description="torchvision classifier, cnn4, resnet32, or module:factory."
    )
    weights: str = Field(
        default="none",
        description="DEFAULT (torchvision's), none, or a .safetensors, .pt or .pth file.",
    )
    feature_layer: str | None = Field(
        default=None,
        description="Name of the penultimate layer; None: the input of the last Linear.",
    )
    num_classes: int = Field(
        default=10, ge=1, description="K where the network is made without weights."
    )
    class_names: tuple[str, ...] | None = Field(
        default=None,
        description="What the head tells apart; None where that is not the project's classes.",
    )
    input_size: int | None = Field(
        default=None, ge=8, description="Side of the square input, in pixels."
    )
    seed: int = Field(default=0, ge=0, description="Seed of weights that are not read.")
    head: HeadKind = Field(
        default="own",
        description="own: as the architecture has it; else its last Linear is replaced by a "
        "linear or a cosine one with num_classes outputs.",
    )
    head_scale: float = Field(
        default=COSINE_SCALE, gt=0, description="What the cosines of a cosine head are times."
    )

    @model_validator(mode="after")
    def _consistent(self) -> BackboneSpec:
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names for {self.num_classes} classes; "
                "expected one name for each class"
            )
        return self


class Recipe(BaseModel):
    """How pictures become inputs of a network."""

    model_config = ConfigDict(frozen=True)

    input_size: int = Field(ge=1, le=_LARGEST_PX, description="Side of the center crop, in pixels.")
    resize: int = Field(
        ge=1, le=_LARGEST_PX, description="Shorter side before the crop, in pixels."
    )
    mean: tuple[float, float, float] = Field(description="Of each channel, on [0, 1].")
    std: tuple[float, float, float] = Field(description="Of each channel, on [0, 1].")


def build(spec: BackboneSpec) -> tuple[nn.Module, Recipe, tuple[str, ...] | None]:
    """Make the network, fill in its weights, and say how it is fed.

    Returns: the network, its recipe, and its class names over the project's classes or None.

    Raises:
        ConfigError: if nothing is called so.
        WeightsError: if the weights cannot be had.
    """
    names = spec.class_names
    if spec.architecture == efficientnet_lite.NAME:
        network, recipe = _efficientnet_lite(spec)
        names = None if spec.weights == "DEFAULT" else names
    elif spec.architecture in BACKBONES:
        make = BACKBONES[spec.architecture]
        with seeded(spec.seed):
            network = make(_outputs(spec, make))
        if spec.weights == "DEFAULT":
            raise WeightsError(
                f"there are no published weights of {spec.architecture}; "
                "give a file, or none to train it on your labels"
            )
        recipe = _square(spec.input_size or 32)
    elif ":" in spec.architecture:
        network, recipe, own_names = _from_factory(spec)
        names = names or own_names
    else:
        network, recipe = _from_torchvision(spec)
        # ImageNet's classes are not the project's.
        names = None if spec.weights == "DEFAULT" else names
    from_file = spec.weights not in {"DEFAULT", "none"}
    if spec.head != "own":
        # Of a file its own number of outputs counts, as without a new head.
        known = from_file and ":" not in spec.architecture
        outputs = last_linear(network)[1].out_features if known else spec.num_classes
        with seeded(spec.seed):
            network = set_head(network, spec.head, outputs, scale=spec.head_scale)
    if from_file:
        _fill(network, Path(spec.weights))
    return network, recipe, names


def set_head(
    network: nn.Module, kind: HeadKind, outputs: int, *, scale: float = COSINE_SCALE
) -> nn.Module:
    """Put a fresh head in place of the last Linear, unless it is of this kind and width already.

    Args:
        network: changed in place, unless it is that layer itself.
        kind: ``own`` changes nothing.
        outputs: K.
        scale: of a cosine head.
    Returns: the network.    Raises: ConfigError: if it has no Linear.
    """
    if kind == "own":
        return network
    old = last_linear(network)[1]
    if isinstance(old, CosineLinear):
        fits = kind == "cosine" and old.scale == scale
    else:
        fits = kind == "linear" and type(old) is nn.Linear and old.bias is not None
    if fits and old.out_features == outputs:
        return network

    def make(layer: nn.Linear) -> nn.Module:
        size = layer.in_features
        fresh = CosineLinear(size, outputs, scale) if kind == "cosine" else nn.Linear(size, outputs)
        return fresh.to(layer.weight.device, layer.weight.dtype)

    return replace_last_linear(network, make)


def published_classes(spec: BackboneSpec) -> tuple[str, ...] | None:
    """What published weights tell apart, in the order of their outputs; None for others."""
    if spec.weights != "DEFAULT" or spec.architecture in BACKBONES or ":" in spec.architecture:
        return None
    weights = zoo.get_model_weights(spec.architecture)
    names = weights.DEFAULT.meta.get("categories") if hasattr(weights, "DEFAULT") else None
    return tuple(str(name) for name in names) if names else None


def _square(size: int) -> Recipe:
    return Recipe(input_size=size, resize=size, mean=_GREY[0], std=_GREY[1])


def _efficientnet_lite(spec: BackboneSpec) -> tuple[nn.Module, Recipe]:
    make, size = (
        efficientnet_lite.efficientnet_lite0,
        spec.input_size or efficientnet_lite.INPUT_SIZE,
    )
    published = spec.weights == "DEFAULT"
    with seeded(spec.seed):
        network = make(1000 if published else _outputs(spec, make))
    if published:
        _fill(network, efficientnet_lite.weights_file())
    recipe = Recipe(
        input_size=size, resize=size, mean=efficientnet_lite.MEAN, std=efficientnet_lite.STD
    )
    return network, recipe


def _from_torchvision(spec: BackboneSpec) -> tuple[nn.Module, Recipe]:
    known = zoo.list_models(module=zoo)
    if spec.architecture not in known:
        raise ConfigError(
            f"found backbone {spec.architecture!r}; expected {', '.join(sorted(BACKBONES))}, "
            "module:factory, or a torchvision classifier such as resnet18"
        )
    if spec.architecture in _REFUSED:
        raise ConfigError(
            f"{spec.architecture} keeps settings that its weights do not hold; take another one"
        )
    published = zoo.get_model_weights(spec.architecture)
    size, resize, (mean, std) = 224, 256, _IMAGENET
    if hasattr(published, "DEFAULT"):
        preset = published.DEFAULT.transforms()
        size, resize = int(preset.crop_size[0]), int(preset.resize_size[0])
        mean, std = tuple(preset.mean), tuple(preset.std)
    if spec.input_size is not None:
        size, resize = spec.input_size, round(spec.input_size * resize / size)
    recipe = Recipe(input_size=size, resize=resize, mean=mean, std=std)
    if spec.weights == "DEFAULT":
        try:
            return zoo.get_model(spec.architecture, weights="DEFAULT"), recipe
        except (URLError, OSError, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"the published weights of {spec.architecture} could not be downloaded ({error}); "
                "put a .safetensors or .pth file on this machine and set RAREFIRST_WEIGHTS to its "
                "path, or set it to none"
            ) from error

    def make(num_classes: int) -> nn.Module:
        blank: nn.Module = zoo.get_model(spec.architecture, weights=None, num_classes=num_classes)
        return blank

    with seeded(spec.seed):
        network = make(_outputs(spec, make))
    return network, recipe


def _from_factory(spec: BackboneSpec) -> tuple[nn.Module, Recipe, tuple[str, ...] | None]:
    module_name, _, factory_name = spec.architecture.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"backbone {spec.architecture!r} cannot be imported ({error}); expected module:factory "
            "where the module is on the Python path of the service"
        ) from error
    with seeded(spec.seed):
        network = factory()
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{spec.architecture} returned {type(network).__name__}; expected an nn.Module from "
            "images (N, 3, H, W) to logits (N, K)"
        )
    size = spec.input_size or int(getattr(network, "input_size", 224))
    mean = tuple(float(x) for x in getattr(network, "mean", _IMAGENET[0]))
    std = tuple(float(x) for x in getattr(network, "std", _IMAGENET[1]))
    names = getattr(network, "class_names", None)
    recipe = Recipe.model_validate(
        {"input_size": size, "resize": size, "mean": mean, "std": std}, strict=False
    )
    return network, recipe, tuple(str(name) for name in names) if names is not None else None


def _outputs(spec: BackboneSpec, make: Callable[[int], nn.Module]) -> int:
    """K of the weights file, so that a head of another width than the project's still loads."""
    if spec.weights in {"DEFAULT", "none"}:
        return spec.num_classes
    state = read_weights(Path(spec.weights))
    with torch.device("meta"):
        matrices = [name for name, value in make(2).named_parameters() if value.ndim >= 2]
    head = state.get(matrices[-1])
    return spec.num_classes if head is None else int(head.shape[0])


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a file; nothing in it is executed.

    Raises: WeightsError: if it is not there, not readable, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(
            f"found no file {path}; RAREFIRST_WEIGHTS is DEFAULT, none, or the path of a "
            ".safetensors, .pt or .pth file"
        ) from error
    except Exception as error:
        # torch.load and safetensors raise many kinds for a damaged file (pickle, zip, EOF, JSON).
        if not isinstance(error, SafetensorError | RuntimeError | ValueError | OSError | EOFError):
            logger.debug("reading %s", path, exc_info=True)
        raise WeightsError(
            f"{path} is no state dict that can be read safely ({type(error).__name__}); "
            "save it again as .safetensors, or with torch.save(model.state_dict(), path)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path} holds {type(loaded).__name__}; expected a state dict")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def _fill(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise WeightsError(
            f"the weights in {path} do not fit the network: {' '.join(lines[1:3]).strip()}; "
            "set RAREFIRST_BACKBONE to the architecture they were made for"
        ) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights by seed, without touching the caller's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
