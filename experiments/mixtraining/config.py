"""The options that all MixTraining experiments share, and the settings of each arm that follow from them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.harness.options import RunOptions
from experiments.mixtraining.trained_parts import adapter_rank
from mixmin_jax.errors import InputError
from mixmin_jax.training.mixtraining import OptimizerSettings
from mixmin_jax.training.schedule import Alpha, Schedule

Arm = Literal["sl", "ssl_then_sl", "mixtraining", "finetune"]
ARMS: tuple[Arm, ...] = ("sl", "ssl_then_sl", "mixtraining")
FINETUNE: Arm = "finetune"  # `sl` from a pretrained encoder: an arm where there is one
SUPERVISED_ARMS = ("sl", FINETUNE)
Budget = Literal["schedule", "matched", "cheaper", "labeled"]
Variant = Literal["visible", "all_tokens", "two_passes"]
SslView = Literal["visible", "all_tokens"]
_EITHER = tyro.conf.create_mutex_group(required=False)  # of options, one of which may be given
Final = Literal["best", "mixtraining", "sl", "ssl_then_sl", "finetune", "none"]


@dataclasses.dataclass(frozen=True)
class ArmSettings:
    """What may differ between arms, and what --tune chooses for each."""

    learning_rate: float  # peak in SSL and joint steps, and in all steps of `sl` and `finetune`
    sl_learning_rate: float  # peak in the SL steps that follow others
    ssl_mask: float
    joint_mask: float
    mix_ratio: float
    alpha: Alpha

    def of(self, arm: Arm) -> dict[str, Any]:
        """All that matters to the arm, in words where it is no number."""
        found: dict[str, Any] = {"learning_rate": self.learning_rate}
        if arm not in SUPERVISED_ARMS:
            found |= {"sl_learning_rate": self.sl_learning_rate, "ssl_mask": self.ssl_mask}
        if arm == "mixtraining":
            path = f" to {self.alpha.end}" if self.alpha.kind != "constant" else ""
            found |= {
                "mix_ratio": self.mix_ratio,
                "joint_mask": self.joint_mask,
                "alpha": f"{self.alpha.kind} {self.alpha.start}{path}",
            }
        return found

    def schedule(self, arm: Arm, options: "MixTrainingOptions") -> Schedule:
        return Schedule(
            0 if arm in SUPERVISED_ARMS else options.ssl_epochs,
            options.sl_epochs,
            self.mix_ratio if arm == "mixtraining" else 0.0,
            self.alpha,
            learning_rate=self.learning_rate,
            sl_learning_rate=self.learning_rate if arm in SUPERVISED_ARMS else self.sl_learning_rate,
            warmup_fraction=options.warmup_fraction,
            restart_learning_rate=options.restart_learning_rate,
            restart_moments=options.restart_moments,
        )


@dataclasses.dataclass(frozen=True)
class ScheduleOptions(RunOptions):
    """What is hidden, what the encoder sees of it, and how fast each phase learns."""

    mix_ratio: float = 0.5
    """Share of the shorter objective, SSL or SL, that is trained jointly: one step sees both."""
    joint: Variant = "visible"
    """What the encoder sees in a joint step: the visible tokens, all positions with a mask token, or both objectives'
    inputs in two passes (the reference)."""
    ssl_sees: SslView = "visible"
    """What the encoder sees in an SSL step: the visible tokens (a masked autoencoder), or all positions with a mask
    token (masked language modeling, as in BERT)."""
    ssl_mask: float = 0.5
    """Share of the tokens hidden in an SSL step."""
    joint_mask: float = 0.5
    """Share of the tokens hidden in a joint step."""
    alpha: Literal["constant", "linear", "cosine"] = "linear"
    """Weight of the SSL loss over the joint steps."""
    alpha_start: float = 1.0
    """Alpha in the first joint step (in all of them if constant)."""
    alpha_end: float = 0.0
    """Alpha in the last joint step (unless constant)."""
    learning_rate: float = 1e-3
    """Peak in SSL and joint steps."""
    sl_learning_rate: float = 1e-3
    """Peak in SL steps that follow others, or a pretrained start."""
    warmup_fraction: float = 0.05
    """Share of each cosine's steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """Of AdamW, in all arms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ssl_mask < 1 or not 0 <= self.joint_mask < 1:
            raise InputError(
                f"--ssl-mask must lie between 0 and 1, and --joint-mask in [0, 1), not {self.ssl_mask} and"
                f" {self.joint_mask}"
            )

    @property
    def alphas(self) -> Alpha:
        """Alpha over the joint steps."""
        return Alpha(self.alpha, self.alpha_start, self.alpha_start if self.alpha == "constant" else self.alpha_end)


@dataclasses.dataclass(frozen=True)
class MixTrainingOptions(ScheduleOptions):
    """Options of every MixTraining experiment."""

    out: Path = Path("runs/mixtraining")
    """Folder for the results."""
    fractions: Annotated[tuple[float, ...], _EITHER] = (0.25, 1.0)
    """Shares of the training examples (the validation part is taken off before) to train on, each with all arms."""
    label_fractions: Annotated[tuple[float, ...], _EITHER] = ()
    """In place of --fractions: shares of the training examples whose labels are used. Self-supervision sees all."""
    seeds: int = 2
    """Repeat every run with seeds 0, 1, ...: other examples of a fraction, initial parameters, order and masks."""
    ssl_epochs: int = 20
    """E_ssl: epochs of self-supervision in ssl_then_sl."""
    sl_epochs: int = 20
    """E_sl: supervised epochs in all three arms."""
    ssl_mask: float = 0.75
    """Share of the tokens hidden in an SSL step."""
    restart_learning_rate: bool = True
    """The learning rate has a warm-up and a cosine in each phase; with --no-restart-learning-rate, one over the whole
    run."""
    restart_moments: bool = True
    """The optimizer's moments are forgotten where a phase begins; with --no-restart-moments, they carry on."""
    batch_size: int = 64
    """Examples in a step."""
    scratch_learning_rate: float = 1e-3
    """Peak in the arm `sl`, which starts from scratch."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, in all arms."""
    train: str = "all"
    """What SL steps train beside the head: all of the encoder, lora:RANK (low-rank adapters of it), or nothing (head).
    SSL and joint steps train all of it. `sl` has only SL steps: its encoder stays random, but for adapters."""
    matched: bool = True
    """`sl` and `mixtraining` are trained once more with the FLOPs of ssl_then_sl, by more epochs. Where there are
    unlabeled examples, so are `ssl_then_sl` and `mixtraining` with self-supervision on the labeled ones alone.
    --no-matched leaves all of these out."""
    times_cheaper: float | None = None
    """Train `mixtraining` once more with the FLOPs of ssl_then_sl divided by this, by more epochs or fewer: with 1.29,
    at the paper's speed."""
    checkpoints: int = 6
    """Evaluations along a run, on --checkpoint-examples of the test set; nothing is chosen by them."""
    checkpoint_examples: int = 2000
    """Test examples in each of those; the end of a run is evaluated on all."""
    probe: bool = False
    """While a run self-supervises, fit a linear probe and nearest neighbors to its frozen features, --checkpoints times
    and on --checkpoint-examples of its training and test examples; nothing is chosen by them."""
    validation_fraction: float = 0.1
    """Share of the training examples that is set aside for --tune (and left aside without it)."""
    tune: bool = False
    """Choose learning rates, masks, mix ratio and alpha of each arm on the validation part first, by successive
    halving at the smallest fraction: as many trials and epochs for each arm, learning rates and SSL masks from one
    list. Where less than a standard error lies between two, the cheaper is chosen."""
    tune_trials: int = 4
    """Settings that each arm tries (2 to 32); half of them go on each time the epochs double."""
    final: Final = "best"
    """Which arm is trained once more, on all labeled data but the test part, to leave a model in --out/model: the
    arm that the report recommends at the largest fraction, one by its name with its own schedule (`finetune` needs
    --init), or none."""
    compress: bool = False
    """Evaluate each trained model also with 50, 80 and 90 % of its encoder's weights pruned, and with 8-bit weights."""
    price_per_hour: float | None = None
    """Price of an hour of this machine, for the report's last line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named, given = f"--{self.shares_option}", " ".join(map(str, self.shares))
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise InputError(f"{named} must lie in (0, 1], not {given}")
        if len(set(self.shares)) < len(self.shares):
            raise InputError(f"{named} names one twice: {given}")
        if self.checkpoint_examples < 1 or self.checkpoints < 0:
            raise InputError("--checkpoint-examples must be at least 1, --checkpoints at least 0")
        if min(self.ssl_epochs, self.sl_epochs) < 1:
            raise InputError(
                f"--ssl-epochs and --sl-epochs must be at least 1, not {self.ssl_epochs} and {self.sl_epochs}:"
                " the arms need both"
            )
        if self.times_cheaper is not None and not 1 < self.times_cheaper < float("inf"):
            raise InputError(f"--times-cheaper must be above 1, not {self.times_cheaper}; equal FLOPs are --matched")
        if not 2 <= self.tune_trials <= 32:
            raise InputError(f"--tune-trials must lie between 2 and 32, not {self.tune_trials}")
        adapter_rank(self.train)
        if self.probe and self.checkpoints == 0:
            raise InputError("--probe probes --checkpoints times, which is 0: raise it")
        for arm in ARMS:  # which check the rest
            self.settings(arm).schedule(arm, self)
        if self.mix_ratio > 0 and self.settings("mixtraining").schedule("mixtraining", self).joint_epochs == 0:
            raise InputError(
                f"--mix-ratio {self.mix_ratio} of {min(self.ssl_epochs, self.sl_epochs)} epochs is no whole joint"
                " epoch, so that mixtraining would be ssl_then_sl: raise it, or the epochs"
            )
        self.check_batches(batch_size=self.batch_size)
        _ = self.optimizer

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the training examples whose labels are used, each with all arms."""
        return self.label_fractions or self.fractions

    @property
    def shares_option(self) -> str:
        return "label-fractions" if self.label_fractions else "fractions"

    @property
    def optimizer(self) -> OptimizerSettings:
        return OptimizerSettings(weight_decay=self.weight_decay, label_smoothing=self.label_smoothing)

    def settings(self, arm: Arm) -> ArmSettings:
        """The arm's settings before --tune."""
        rates = {"sl": self.scratch_learning_rate, FINETUNE: self.sl_learning_rate}
        return ArmSettings(
            learning_rate=rates.get(arm, self.learning_rate),
            sl_learning_rate=self.sl_learning_rate,
            ssl_mask=self.ssl_mask,
            joint_mask=self.joint_mask,
            mix_ratio=self.mix_ratio,
            alpha=self.alphas,
        )
