"""The recipe: all settings of a training run. It is validated when it is made, and saved with the weights."""

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
    """Settings that belong together: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataRecipe(Section):
    """Input and targets of the network."""

    categories: tuple[Literal["COVID-19", "Non-COVID", "Normal"], ...] = ("COVID-19", "Non-COVID", "Normal")
    """Categories of COVID-QU-Ex to train on. Images without a category, or of one of your own, are always used."""
    targets: tuple[Target, ...] = Field(("infection",), min_length=1)
    """Output channels, in order. Where an image lacks a kind of mask, this part of its loss is left out."""
    non_covid: Literal["background", "lungs", "out"] = "lungs"
    """Use of Non-COVID images. Their infection masks are empty by definition of the dataset, although they show
    opacities. 'background': as images without infection; 'lungs': for the lungs only, infection is left out of the
    loss; 'out': not used."""
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
            raise ValueError("targets has a duplicate")
        if any(side % 32 or not 32 <= side <= 2048 for side in self.size):
            raise ValueError(
                f"size is {self.size[0]}x{self.size[1]}; each side must be a multiple of 32, from 32 to 2048"
            )
        return self


class NetworkRecipe(Section):
    """The network."""

    name: str = "unet"
    """'unet', 'attention-unet', 'unet++' or 'residual-unet' (from scratch, MONAI), or 'smp/DECODER' for any
    decoder of segmentation_models_pytorch, such as 'smp/unet', 'smp/fpn' or 'smp/segformer'."""
    features: int = Field(64, ge=4, le=256)
    """Channels at full resolution of the networks from scratch; doubled at each of the four lower levels."""
    encoder: str | None = None
    """For 'smp/...': an encoder of segmentation_models_pytorch, or of timm with the prefix 'tu-'."""
    pretrained: bool = False
    """Initialise the encoder with ImageNet weights. Works offline for tu-tf_efficientnet_lite0, 1 and 2."""
    decoder_channels: tuple[int, ...] | None = None
    """For 'smp/unet', 'smp/unetplusplus', 'smp/manet' and 'smp/linknet'-like decoders: channels from coarse to
    fine; None uses the library's default."""
    decoder_stride: Literal[1, 2, 4] = 1
    """For 'smp/unet': resolution at which the decoder stops; its logits are enlarged to full size. At 2 the finest
    stage, which takes most of the time, is left out."""
    standard_exposure: bool = False
    """Bring every image to one exposure inside the network, also in the model file: gamma, brightness and contrast of
    the stored image then change little."""
    smoothing: int = Field(0, ge=0, le=8)
    """How often each pixel is replaced by the mean of 3x3 pixels inside the network, also in the model file, before
    anything else. Twice is a blur of 1.15 pixels: the sharpness, the grain and the compression of a file then change
    little."""
    within_lungs: bool = False
    """Multiply the probability of infection by that of the lungs, so that there is nearly none outside of the lungs."""
    classification_head: bool = False
    """For 'smp/...': also classify the whole image by category, from the encoder's deepest features."""
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
    """The loss. It is computed for each image and channel, then averaged."""

    name: Literal["bce", "dice", "bce+dice", "focal", "dice+focal"] = "bce"
    """Sums have equal weights."""
    positive_weight: float = Field(1.0, gt=0)
    """Weight of mask pixels relative to background in the BCE and focal parts."""
    target_weights: dict[Target, float] = Field(default_factory=dict)
    """Weight of each output channel; the default is 1."""
    classification_weight: float = Field(0.5, ge=0)
    """Weight of the classification head's cross-entropy, relative to the loss of the masks."""
    evidence_weight: float = Field(0.0, ge=0)
    """For the target 'opacity': weight of a cross-entropy of its highest logits, which asks for an opacity somewhere in
    images that show one without a mask to be trusted (Non-COVID, whole-lung masks), and for none in normal ones."""
    evidence_area: float = Field(0.02, gt=0, le=1)
    """Fraction of the image's pixels, the highest, of which 'evidence' takes the mean."""
    evidence_target: float = Field(0.9, gt=0.5, le=1)
    """Probability that 'evidence' asks for where there is an opacity."""
    distillation_weight: float = Field(1.0, ge=0)
    """Weight of the distillation loss (`--distill-from`), relative to the loss of masks and categories: cross-entropy
    to the probabilities of the other models, of the masks and, times `classification_weight`, of the categories. It
    is not part of `train_loss`."""
    retention_weight: float = Field(0.0, ge=0)
    """Weight of a loss that keeps what the initial weights know where an image lacks a mask or a category:
    cross-entropy to the probabilities that they give for the same image (Li and Hoiem 2016, arXiv:1606.09282)."""
    gamma: float = Field(2.0, gt=0)
    """Focusing exponent of the focal loss (Lin et al. 2017, arXiv:1708.02002, Eq. 4)."""
    smooth: float = Field(1.0, gt=0)
    """Pixels added above and below in Dice, so that an empty mask has a gradient."""


class AugmentRecipe(Section):
    """Data augmentation, of image and masks together. All off by default."""

    flip: Fraction = Field(0.0, ge=0, le=1)
    """Probability of a left-right flip."""
    rotation: float = Field(0.0, ge=0, le=180)
    """Largest rotation in degrees, in both directions."""
    scale: Fraction = Field(0.0, ge=0, lt=1)
    """Largest change of size, as a fraction."""
    shift: Fraction = Field(0.0, ge=0, lt=1)
    """Largest shift, as a fraction of the side."""
    brightness: Fraction = Field(0.0, ge=0, le=1)
    """Largest value that is added to or subtracted from pixels in [0, 1]."""
    contrast: Fraction = Field(0.0, ge=0, lt=1)
    """Largest change of contrast, as a fraction."""
    gamma: Fraction = Field(0.0, ge=0, lt=4)
    """Largest exponent minus 1; exponents are drawn from 1/(1+gamma) to 1+gamma."""
    invert: Fraction = Field(0.0, ge=0, le=1)
    """Probability of inverting black and white, so that the polarity of a source does not help the network."""
    noise: Fraction = Field(0.0, ge=0, le=1)
    """Standard deviation of added Gaussian noise, pixels in [0, 1]; on half of the images."""
    blur: float = Field(0.0, ge=0, le=10)
    """Largest standard deviation of a Gaussian blur, in pixels; on a quarter of the images."""
    border: Fraction = Field(0.0, ge=0, le=1)
    """Probability that what rotation, scale and shift move in from outside is black, white or gray at random; black
    otherwise."""
    storage: Fraction = Field(0.0, ge=0, le=1)
    """How often films are stored in another way: 1 resamples half of them, blurs a quarter, sharpens a fifth, adds
    noise to a third and makes a third JPEG files (see `cxrseg.training.storage`)."""
    appearance: Fraction = Field(0.0, ge=0, le=1)
    """Probability that a film gets the gray values of another film of its batch, and the same again for its
    spectrum (sharpness and grain), so that the look of a source does not help the network (see
    `cxrseg.training.appearance`)."""
    cutout: Fraction = Field(0.0, ge=0, le=1)
    """Probability that a rectangle of 2 to 10% of the image is set to black (the mask is not changed)."""


class OptimiserRecipe(Section):
    """Optimiser, schedule and number format of the training."""

    name: Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd"] = "adam"
    """Optimiser of torch.optim; SGD with Nesterov momentum 0.99, as nnU-Net."""
    learning_rate: float = Field(1e-4, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay as the optimiser defines it (decoupled in AdamW)."""
    schedule: Literal["constant", "cosine", "poly", "plateau"] = "constant"
    """'cosine' and 'poly' (power 0.9) decrease to zero over the run, step by step; 'plateau' halves the rate when the
    val loss has not decreased for 3 epochs."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up from zero, in epochs (fractions allowed)."""
    epochs: int = Field(20, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(8, ge=1)
    """Images in a step, over all processes together."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; None does not clip."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights, per step; the average is validated and exported. None:
    off."""
    batch_norm_recalibration: int = Field(0, ge=0)
    """Number of training images, without augmentation, from which the batch-norm statistics are computed again before
    each validation, as an average of weights needs (Izmailov et al. 2018, arXiv:1803.05407, section 3.2). 0: off."""
    patience: int | None = Field(None, ge=1)
    """Early stopping: stop after this number of epochs without a better val Dice; None runs all epochs."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the computation (autocast). float16 needs a GPU; the weights are float32."""
    channels_last: bool = False
    """Memory layout that is faster on CPUs and tensor cores."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}, but the run has {self.epochs} epochs")
        if self.schedule == "plateau" and self.warmup_epochs:
            raise ValueError("schedule 'plateau' has no warm-up; set warmup_epochs to 0")
        return self


class Recipe(Section):
    """All settings of a training run."""

    name: str = Field(min_length=1, pattern=r"^[\w.+-]+$")
    """Short name, for run folders and model files."""
    description: str = ""
    """Its purpose, in one sentence."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Random seed of weights, order and augmentation: the same command on the same CPU gives the same weights."""
    init_from: Literal["shipped"] | None = None
    """'shipped': start with the weights that come with cxrseg, unless `--init-from` names others."""
    data: DataRecipe = DataRecipe()
    """Input and targets of the network."""
    network: NetworkRecipe = NetworkRecipe()
    """The network."""
    loss: LossRecipe = LossRecipe()
    """The loss."""
    augment: AugmentRecipe = AugmentRecipe()
    """Data augmentation."""
    optimiser: OptimiserRecipe = OptimiserRecipe()
    """Optimiser, schedule and number format."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = set(self.loss.target_weights) - set(self.data.targets)
        if unknown:
            raise ValueError(f"loss.target_weights names {', '.join(sorted(unknown))}, which is not in data.targets")
        if self.network.within_lungs and not {"infection", "lungs"} <= set(self.data.targets):
            raise ValueError("network.within_lungs needs both of data.targets, infection and lungs")
        if self.loss.evidence_weight and "opacity" not in self.data.targets:
            raise ValueError("loss.evidence_weight needs 'opacity' among data.targets")
        return self

    def to_yaml(self) -> str:
        """The recipe as YAML with every setting; `load_recipe` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
