"""The recipe: every choice of a training run, validated at birth and saved beside the weights."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AugmentRecipe",
    "DataRecipe",
    "LossRecipe",
    "NetworkRecipe",
    "OptimiserRecipe",
    "Recipe",
    "Section",
]

Target: TypeAlias = Literal["infection", "opacity", "lungs"]
Fraction: TypeAlias = float


class Section(BaseModel):
    """Settings that belong together: frozen, and none but the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataRecipe(Section):
    """What the network sees, and what it is asked for."""

    categories: tuple[Literal["COVID-19", "Non-COVID", "Normal"], ...] = ("COVID-19", "Non-COVID", "Normal")
    """Which images take part. Images of a dataset without categories always do."""
    targets: tuple[Target, ...] = Field(("infection",), min_length=1)
    """Output channels, in order. Where an image lacks a kind of mask, that part of its loss is left out."""
    non_covid: Literal["background", "lungs", "out"] = "lungs"
    """What Non-COVID images teach. Their infection masks are empty by definition of the dataset, not because no
    opacity is there. 'background': no infection anywhere; 'lungs': lungs only, infection is left out of the loss;
    'out': they are not used."""
    opacity_limit: float = Field(0.75, gt=0, le=1)
    """For the target 'opacity', which is what a radiologist would draw whatever the cause. An image's own opacity mask
    counts; where it has none, its infection mask does, if it covers at most this fraction of the lungs. COVID-QU-Ex
    marks whole lungs in a quarter of its films; those teach only that there is an opacity."""
    size: tuple[int, int] = (256, 256)
    """(height, width) of the network's input in pixels; one number means a square."""

    @model_validator(mode="before")
    @classmethod
    def _square(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("size"), int):
            return {**values, "size": (values["size"], values["size"])}
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets names a mask twice")
        if any(side % 32 or not 32 <= side <= 2048 for side in self.size):
            raise ValueError(
                f"size is {self.size[0]}x{self.size[1]}; each side must be a multiple of 32, from 32 to 2048"
            )
        return self


class NetworkRecipe(Section):
    """Which network is trained."""

    name: str = "unet"
    """'unet', 'attention-unet', 'unet++' or 'residual-unet' (from scratch, MONAI), or 'smp/DECODER' for any
    decoder of segmentation_models_pytorch, such as 'smp/unet', 'smp/fpn' or 'smp/segformer'."""
    features: int = Field(64, ge=4, le=256)
    """Channels at full resolution of the networks from scratch; doubled at each of the four levels below."""
    encoder: str | None = None
    """For 'smp/...': an encoder of segmentation_models_pytorch, or of timm with the prefix 'tu-'."""
    pretrained: bool = False
    """Start the encoder from ImageNet weights. Offline for tu-tf_efficientnet_lite0, 1 and 2."""
    decoder_channels: tuple[int, ...] | None = None
    """For 'smp/unet', 'smp/unetplusplus', 'smp/manet' and 'smp/linknet'-like decoders: channels from coarse to
    fine; None takes the library's."""
    decoder_stride: Literal[1, 2, 4] = 1
    """For 'smp/unet': where the decoder stops; its logits are enlarged to full size. At 2 the finest stage, which costs
    most, is left out."""
    within_lungs: bool = False
    """Infection is the product of its own map's and the lungs' probability: softly, none outside of the lungs."""
    classification_head: bool = False
    """For 'smp/...': also judge the whole image, by category, from the encoder's deepest features."""
    dropout: Fraction = Field(0.0, ge=0, lt=1)
    """Fraction of features dropped: in the networks from scratch, and before the classification head."""
    weights_dtype: Literal["float32", "float16"] = "float32"
    """Number format of the weights in the model file. float16 halves the file; prediction computes with the same
    numbers rounded to 11 bits."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name.startswith("smp/") != (self.encoder is not None):
            raise ValueError("'encoder' is needed by the networks 'smp/...', and by no other")
        if self.encoder is None and (self.pretrained or self.classification_head):
            raise ValueError("'pretrained' and 'classification_head' need a network 'smp/...' with an encoder")
        if self.decoder_stride > 1 and self.name != "smp/unet":
            raise ValueError("'decoder_stride' above 1 needs the network 'smp/unet'")
        return self


class LossRecipe(Section):
    """What training makes small. Each loss is taken per image and channel, then averaged."""

    name: Literal["bce", "dice", "bce+dice", "bce+dice+boundary", "focal", "dice+focal", "tversky", "focal-tversky"] = (
        "bce"
    )
    """Sums weigh their parts equally. 'boundary' compares borders: 1 - the F1 of their pixels, 2 pixels apart at most
    (Bokhovkin and Burnaev 2019, arXiv:1905.07852, Eq. 8)."""
    positive_weight: float = Field(1.0, gt=0)
    """Weight of mask pixels against background in the BCE and focal parts."""
    target_weights: dict[Target, float] = Field(default_factory=dict)
    """Weight of each output channel; 1 where not named."""
    small_mask_weight: float = Field(1.0, gt=0)
    """Weight of a mask that is all but empty. It goes to 1 in a line, for masks of a tenth of the image and more; empty
    ones weigh 1."""
    classification_weight: float = Field(0.5, ge=0)
    """Weight of the classification head's cross-entropy beside the masks' losses."""
    evidence_weight: float = Field(0.0, ge=0)
    """For the target 'opacity': weight of a cross-entropy of its highest logits, which asks for an opacity somewhere in
    images that show one without a mask to be trusted (Non-COVID, whole-lung masks), and for none in normal ones."""
    evidence_area: float = Field(0.02, gt=0, le=1)
    """Fraction of the image's pixels, the highest, of which 'evidence' takes the mean."""
    evidence_target: float = Field(0.9, gt=0.5, le=1)
    """Probability that 'evidence' asks for where there is an opacity."""
    distillation_weight: float = Field(1.0, ge=0)
    """Weight of what the teachers say (`--distill-from`), beside the masks and categories: cross-entropy to their
    probabilities, of the masks and, times `classification_weight`, of the categories. It is not in `train_loss`."""
    false_positive_weight: float = Field(0.3, ge=0)
    """Tversky's alpha: weight of false positives (Salehi et al. 2017, arXiv:1706.05721, Eq. 3)."""
    false_negative_weight: float = Field(0.7, ge=0)
    """Tversky's beta: weight of false negatives."""
    gamma: float = Field(2.0, gt=0)
    """Focusing exponent: of focal loss (Lin et al. 2017, arXiv:1708.02002, Eq. 4); of focal Tversky as the power
    1/gamma (Abraham and Khan 2018, arXiv:1810.07842, Eq. 4, who take 4/3)."""
    smooth: float = Field(1.0, gt=0)
    """Pixels added above and below in Dice, Tversky and boundary, so that an empty mask has a gradient."""


class AugmentRecipe(Section):
    """How training images are varied; image and masks together. All off by default."""

    flip: Fraction = Field(0.0, ge=0, le=1)
    """Probability of a left-right flip."""
    rotation: float = Field(0.0, ge=0, le=180)
    """Largest rotation, degrees either way."""
    scale: Fraction = Field(0.0, ge=0, lt=1)
    """Largest change of size, as a fraction."""
    shift: Fraction = Field(0.0, ge=0, lt=1)
    """Largest shift, as a fraction of the side."""
    brightness: Fraction = Field(0.0, ge=0, le=1)
    """Largest value added to or taken from pixels in [0, 1]."""
    contrast: Fraction = Field(0.0, ge=0, lt=1)
    """Largest change of contrast, as a fraction."""
    gamma: Fraction = Field(0.0, ge=0, lt=4)
    """Largest exponent minus 1; exponents are drawn from 1/(1+gamma) to 1+gamma."""
    invert: Fraction = Field(0.0, ge=0, le=1)
    """Probability that black and white change places, so that the polarity of a source is no clue."""
    noise: Fraction = Field(0.0, ge=0, le=1)
    """Standard deviation of added Gaussian noise, pixels in [0, 1]; on half of the images."""
    blur: float = Field(0.0, ge=0, le=10)
    """Largest standard deviation of a Gaussian blur, in pixels; on a quarter of the images."""
    border: Fraction = Field(0.0, ge=0, le=1)
    """Probability that what rotation, scale and shift move in from outside is black, white or gray at random; black
    otherwise."""
    storage: Fraction = Field(0.0, ge=0, le=1)
    """How often films are stored in another way: 1 resamples half of them, blurs a quarter, sharpens a fifth, adds
    noise to a
    third and makes a third JPEG files (see `cxrseg.training.storage`)."""
    cutout: Fraction = Field(0.0, ge=0, le=1)
    """Probability that a rectangle of 2 to 10% of the image is blacked out (its mask stays)."""


class OptimiserRecipe(Section):
    """How the weights are found."""

    name: Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd"] = "adam"
    """Optimiser of torch.optim; SGD with Nesterov momentum 0.99, as nnU-Net."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate at its highest."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay as the optimiser understands it (decoupled in AdamW)."""
    schedule: Literal["constant", "cosine", "poly", "plateau"] = "constant"
    """'cosine' and 'poly' (power 0.9) fall to zero over the run, step by step; 'plateau' halves the rate when val
    loss has not fallen for 3 epochs."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up from zero, in epochs (fractions allowed)."""
    epochs: int = Field(20, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(8, ge=1)
    """Images a step, over all processes together."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; None does not clip."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights, per step; the average is validated and exported. None: off."""
    batch_norm_recalibration: int = Field(0, ge=0)
    """Before each validation, batch norms take their statistics anew from so many training images, unvaried, as an
    average of weights needs (Izmailov et al. 2018, arXiv:1803.05407, section 3.2). 0: off."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better val Dice; None runs all epochs."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the network's steps (autocast). float16 needs a GPU; weights stay float32."""
    channels_last: bool = False
    """Memory layout that CPUs and tensor cores prefer."""
    compile: bool = False
    """torch.compile the network."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}, but the run has {self.epochs} epochs")
        if self.schedule == "plateau" and self.warmup_epochs:
            raise ValueError("schedule 'plateau' has no warm-up; set warmup_epochs to 0")
        return self


class Recipe(Section):
    """Every choice of a training run."""

    name: str = Field(min_length=1, pattern=r"^[\w.+-]+$")
    """Short name; run folders and model files carry it."""
    description: str = ""
    """What it is for, in a sentence."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Fixes weights, order and augmentation: the same command on the same CPU gives the same weights."""
    data: DataRecipe = DataRecipe()
    """What the network sees and is asked for."""
    network: NetworkRecipe = NetworkRecipe()
    """Which network."""
    loss: LossRecipe = LossRecipe()
    """What training makes small."""
    augment: AugmentRecipe = AugmentRecipe()
    """How training images are varied."""
    optimiser: OptimiserRecipe = OptimiserRecipe()
    """How the weights are found."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = set(self.loss.target_weights) - set(self.data.targets)
        if unknown:
            raise ValueError(f"loss.target_weights names {', '.join(sorted(unknown))}, which is no target")
        if self.network.within_lungs and not {"infection", "lungs"} <= set(self.data.targets):
            raise ValueError("network.within_lungs needs both of data.targets, infection and lungs")
        if self.loss.evidence_weight and "opacity" not in self.data.targets:
            raise ValueError("loss.evidence_weight needs 'opacity' among data.targets")
        return self

    def to_yaml(self) -> str:
        """The recipe as YAML, every field spelt out; `load_recipe` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
