"""Every error that convx raises on purpose.

ConvxError                what went wrong, where, and what to do about it
├── UsageError            options that contradict each other (exit code 2)
├── SourceError           the source checkpoint is missing, broken or not supported
├── TensorError           an expression over tensors that cannot be read
├── PlanError             no valid plan: missing, unknown or mis-shaped tensors
├── RecipeError           a recipe or a SPEC that cannot be read or applied
├── PluginError           a plugin that cannot be loaded or that raised
├── WriteError            the target cannot be written, or a journal does not fit
├── VerifyError           an output that is not what its plan says
└── MeasureError          a measurement that cannot be made as asked
"""

from __future__ import annotations


class ConvxError(Exception):
    """Base of all errors shown to people as one message, without a traceback.

    `message` says what is wrong and where; `hint` says what to do.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(ConvxError):
    exit_code = 2


class SourceError(ConvxError):
    pass


class TensorError(ConvxError):
    pass


class PlanError(ConvxError):
    pass


class RecipeError(ConvxError):
    pass


class PluginError(ConvxError):
    pass


class WriteError(ConvxError):
    pass


class VerifyError(ConvxError):
    pass


class MeasureError(ConvxError):
    pass
