"""The frozen detector: pictures to detections with features and original logits.

Of each picture it keeps the surest boxes, and of each class the surest that are left, so that a
rare object among many common ones has a slot. A slot's features are the 3x3 patch of the
classification tower that the last convolution saw (what the re-calibration layer is trained on),
and the trunk's maps pooled over the box (Mask R-CNN's RoIAlign).
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.ops import nms, roi_align

from models.backbones.images import as_rgb
from models.backbones.networks import BackboneSpec, Recipe, build, read_weights, seeded
from models.backbones.stored import check, fingerprint_of, read_model, refused_if_unfit, write_model
from models.detection.slots import ANCHOR, CONFIDENCE, CORNERS, LOGITS
from models.errors import ImageError, ShapeError, WeightsError
from models.networks.feature_pyramid import STRIDES, Pyramid
from models.networks.retinanet import Looked, Retina

TOP_DETECTIONS = 10
NMS_OVERLAP = 0.5

_SMALL = frozenset({"cnn4", "resnet32"})  # made for 32 px; Trunk5 stands in
_POOLED = (1, 2)  # of STRIDES: maps that are pooled over a box
_BINS = 3
_CANDIDATES = 300  # anchors that are looked at for each class


class DetectorSpec(BaseModel):
    """Which frozen detector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(
        default="trunk5",
        description="The trunk: trunk5, efficientnet_lite0, a torchvision classifier, or "
        "module:factory. cnn4 and resnet32 see 32 px only: trunk5 stands in for them.",
    )
    weights: str = Field(
        default="none",
        description="Of the trunk: DEFAULT (published ones), none, or a file; a file may also "
        "hold a whole detector of these classes.",
    )
    class_names: tuple[str, ...] = Field(min_length=1, description="K classes.")
    input_size: int = Field(default=320, ge=64, description="Longer side of a picture, in pixels.")
    width: int = Field(default=64, ge=8, description="Channels of the pyramid and the towers.")
    top: int = Field(default=TOP_DETECTIONS, ge=1, description="Detections kept of a picture.")
    seed: int = Field(default=0, ge=0, description="Seed of weights that are not read.")

    @property
    def trunk(self) -> str:
        """The architecture that is built."""
        return "trunk5" if self.architecture in _SMALL else self.architecture


class _DetectorCard(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: str = "detector"
    spec: DetectorSpec
    recipe: Recipe
    fingerprint: str


class Detector:
    """A RetinaNet in evaluation mode without gradients.

    Args:
        network: over ``spec.class_names``.
        spec: what it was made from.
        recipe: how pictures become its inputs.
        device: where it runs.
    """

    def __init__(
        self, network: Retina, *, spec: DetectorSpec, recipe: Recipe, device: str = "cpu"
    ) -> None:
        self.spec = spec
        self.recipe = recipe
        self.device = torch.device(device)
        self._network: Retina = network.to(self.device).eval().requires_grad_(False)
        self._one_at_a_time = threading.Lock()
        self._mean = torch.tensor(recipe.mean).view(3, 1, 1)
        self._std = torch.tensor(recipe.std).view(3, 1, 1)
        self.fingerprint = _fingerprint(network, spec, recipe)
        channels = network.backbone.stages.channels
        self.patch_size = 9 * spec.width
        self.slot_size = self.patch_size + sum(channels[level] for level in _POOLED)
        self.slots = 1 + spec.top
        self.feature_size = self.slots * self.slot_size

    @property
    def class_names(self) -> tuple[str, ...]:
        """K classes, in the order of the logits."""
        return self.spec.class_names

    @property
    def own_classes(self) -> tuple[str, ...]:
        """The same: a detector's head is always over the project's classes."""
        return self.spec.class_names

    @property
    def input_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.recipe.input_size

    @property
    def network(self) -> Retina:
        """The frozen network itself; a fine-tune starts from a copy."""
        return self._network

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture to (4, S, S) float32: scaled colours, and 1 where there is picture.

        Raises: ImageError: if its pixels cannot be decoded.
        """
        return self.scaled(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture to (4, S, S) uint8: upright, its longer side S, at the top left of a square.

        Raises: ImageError: if its pixels cannot be decoded, or it is a line.
        """
        size = self.recipe.input_size
        rgb = as_rgb(image, at_least_px=size)
        width, height = rgb.size
        if max(width, height) > size * min(width, height):
            raise ImageError(f"the image of {width} x {height} pixels is too narrow to be judged")
        scale = size / max(width, height)
        to = (max(1, round(width * scale)), max(1, round(height * scale)))
        if to != rgb.size:
            rgb = rgb.resize(to, Image.Resampling.BILINEAR, reducing_gap=2.0)
        found = torch.zeros(4, size, size, dtype=torch.uint8)
        colours = torch.from_numpy(np.array(rgb, dtype=np.uint8)).permute(2, 0, 1)
        found[:3, : to[1], : to[0]] = colours
        found[3, : to[1], : to[0]] = 1
        return found

    def scaled(self, pixels: Tensor) -> Tensor:
        """(4, S, S) or (N, 4, S, S) uint8 to float32, as the network is fed; no picture is 0."""
        mask = pixels[..., 3:, :, :].to(torch.float32)
        colours = pixels[..., :3, :, :].to(torch.float32).div_(255)
        colours = colours.sub_(self._mean).div_(self._std).mul_(mask)
        return torch.cat([colours, mask], dim=-3)

    def embed(
        self, batch: Tensor, *, stages: list[Tensor] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, 4, S, S) inputs to rows of slots; see ``models.detection.slots``.

        Args:
            batch: what ``preprocess`` gave.
            stages: the trunk's maps of these pictures, where they are known.
        Returns: features (N, J * D) and what is said, (N, J * (6 + K)).
        Raises: ShapeError: if the batch has another shape.
        """
        if batch.ndim != 4 or batch.shape[1] != 4:
            raise ShapeError(f"found a batch of shape {tuple(batch.shape)}, expected (N, 4, S, S)")
        extent = extents(batch)
        with self._one_at_a_time, torch.inference_mode():
            # Half as fast again on a processor.
            pictures = batch[:, :3].contiguous(memory_format=torch.channels_last)
            looked = self._network.look(pictures.to(self.device), stages=stages)
            rows = [self._row(looked, number, extent[number]) for number in range(len(batch))]
        features = torch.stack([row[0] for row in rows]).flatten(1)
        said = torch.stack([row[1] for row in rows]).flatten(1)
        return features.float().cpu().numpy(), said.float().cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write weights and card into a new folder, which appears whole or not at all."""
        card = _DetectorCard(spec=self.spec, recipe=self.recipe, fingerprint=self.fingerprint)
        write_model(folder, card, self._network)

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> Detector:
        """Read what ``save`` wrote.

        Raises: CorruptVersion: if files are missing or are not those that were saved.
        """
        card, state = read_model(folder, _DetectorCard)
        with refused_if_unfit(folder):
            network, _ = _blank(card.spec.model_copy(update={"weights": "none"}))
            network.load_state_dict(state)
            loaded = cls(network, spec=card.spec, recipe=card.recipe, device=device)
        check(loaded, card.fingerprint, folder)
        return loaded

    def _row(self, looked: Looked, number: int, extent: Tensor) -> tuple[Tensor, Tensor]:
        """(J, D) features and (J, 6 + K) said of one picture of (width, height) pixels."""
        spec = self.spec
        logits = looked.logits[number]
        limit = torch.cat([extent, extent]).to(logits.device)
        boxes = torch.minimum(looked.boxes[number], limit)
        kept = choose(boxes, logits, spec.top)
        said = torch.zeros(self.slots, LOGITS + logits.shape[1], device=logits.device)
        features = torch.zeros(self.slots, self.slot_size, device=logits.device)
        said[0, ANCHOR] = self.patch_size
        filled = slice(1, 1 + len(kept))
        said[filled, CORNERS] = boxes[kept] / limit
        said[filled, CONFIDENCE] = torch.sigmoid(logits[kept]).amax(dim=1)
        said[filled, ANCHOR] = (kept % self._network.anchors_per_place).float()
        said[filled, LOGITS:] = logits[kept]
        whole = torch.cat([torch.zeros_like(limit[:2]), limit[:2]])[None]
        places = torch.cat([whole, boxes[kept]])
        features[: 1 + len(kept), self.patch_size :] = self._pooled(looked, number, places)
        features[filled, : self.patch_size] = self._patches(looked.towers, number, kept)
        return features, said

    def _pooled(self, looked: Looked, number: int, places: Tensor) -> Tensor:
        """(P, D') the trunk's maps, averaged over each of (P, 4) places."""
        parts = [
            roi_align(
                looked.stages[level][number : number + 1].float(),
                [places],
                output_size=_BINS,
                spatial_scale=1 / STRIDES[level],
                sampling_ratio=2,
                aligned=True,
            ).mean(dim=(2, 3))
            for level in _POOLED
        ]
        return torch.cat(parts, dim=1)

    def _patches(self, towers: list[Tensor], number: int, kept: Tensor) -> Tensor:
        """(P, 9 * C) what the last convolution sees at each of (P,) anchors."""
        found = torch.empty(len(kept), self.patch_size, device=kept.device)
        start = 0
        for tower in towers:
            _, _, height, width = tower.shape
            count = height * width * self._network.anchors_per_place
            here = (kept >= start) & (kept < start + count)
            if bool(here.any()):
                places = (kept[here] - start) // self._network.anchors_per_place
                patches = F.unfold(tower[number : number + 1].float(), 3, padding=1)[0]
                found[here] = patches.T[places]
            start += count
        return found


def choose(boxes: Tensor, logits: Tensor, top: int) -> Tensor:
    """Rows of the detections that are kept, surest first.

    Half of the places are for the surest boxes; the others go round the classes, each giving the
    box that is its surest of those left. No two overlap by more than ``NMS_OVERLAP``.

    Args:
        boxes: (M, 4).
        logits: (M, K).
        top: at most so many come back.
    """
    surest = logits.amax(dim=1)
    least = min(_CANDIDATES, len(logits))
    chosen = [surest.topk(least).indices]
    chosen += [logits[:, k].topk(least).indices for k in range(logits.shape[1])]
    rows: Tensor = torch.unique(torch.cat(chosen))
    sized = (boxes[rows, 2:] - boxes[rows, :2]).amin(dim=1) >= 1
    rows = rows[sized]
    if not len(rows):
        return rows
    apart = rows[nms(boxes[rows], surest[rows], NMS_OVERLAP)]  # surest first
    first = min(len(apart), (top + 1) // 2)
    taken = list(range(first))
    orders = logits[apart].argsort(dim=0, descending=True, stable=True).T.tolist()
    turn = 0
    left = set(range(first, len(apart)))
    while len(taken) < top and left:
        best = next(row for row in orders[turn % len(orders)] if row in left)
        taken.append(best)
        left.discard(best)
        turn += 1
    chosen_rows: Tensor = apart[torch.tensor(sorted(taken), device=apart.device)]
    return chosen_rows


def extents(batch: Tensor) -> Tensor:
    """(N, 2) width and height in pixels of what is picture in (N, 4, S, S) inputs."""
    mask = batch[:, 3] > 0
    return torch.stack([mask.any(dim=1).sum(dim=1), mask.any(dim=2).sum(dim=1)], dim=1).float()


def load_detector(spec: DetectorSpec, *, device: str = "cpu") -> Detector:
    """Make the frozen detector that a specification asks for.

    Raises:
        ConfigError: if nothing is called so, or it has no maps of the strides that are needed.
        WeightsError: if its weights cannot be had.
    """
    network, recipe = _blank(spec)
    return Detector(network, spec=spec, recipe=recipe, device=device)


def _blank(spec: DetectorSpec) -> tuple[Retina, Recipe]:
    """The network with the trunk's weights, the rest by seed; or all from a file."""
    whole: dict[str, Tensor] | None = None
    if spec.weights not in {"DEFAULT", "none"}:
        state = read_weights(Path(spec.weights))
        whole = state if any(name.startswith("backbone.") for name in state) else None
    trunk, recipe, _ = build(
        BackboneSpec(
            architecture=spec.trunk,
            weights="none" if whole is not None else spec.weights,
            input_size=spec.input_size,
            seed=spec.seed,
        )
    )
    recipe = recipe.model_copy(update={"input_size": spec.input_size, "resize": spec.input_size})
    with seeded(spec.seed):
        network = Retina(Pyramid(trunk, spec.width), len(spec.class_names))
    if whole is not None:
        try:
            network.load_state_dict(whole)
        except RuntimeError as error:
            raise WeightsError(
                f"the detector in {spec.weights} does not fit: "
                f"{' '.join(str(error).splitlines()[1:3]).strip()}; expected one over a trunk "
                f"{spec.trunk} of width {spec.width} for {len(spec.class_names)} classes"
            ) from error
    return network, recipe


def _fingerprint(network: Retina, spec: DetectorSpec, recipe: Recipe) -> str:
    """sha256 of everything that decides the rows."""
    about = [spec.trunk, spec.class_names, spec.top, recipe.model_dump(mode="json")]
    return fingerprint_of(["detector", *about], network)
