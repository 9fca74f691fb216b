"""Every error a user can cause or meet, each mapped to one exit code of the command line."""


class EdcoError(Exception):
    """Base of all errors EDCO raises on purpose: printed as one message, never as a traceback."""

    exit_code = 1


class InputError(EdcoError, ValueError):
    """Something the user gave is wrong: a setting, a file, a row, an id. Nothing was changed."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration is wrong; the message names the key, what came and what is allowed."""


class DataError(InputError):
    """A data file or one of its rows is wrong; the message names file, line and field."""


class ModelError(InputError):
    """A model or tokenizer cannot be used as configured."""


class LedgerError(EdcoError):
    """The ledger cannot be reached, read or written."""


class LedgerVersionError(LedgerError, InputError):
    """The ledger was made by another version of EDCO."""

    exit_code = 2


class LedgerBusyError(LedgerError):
    """Another process holds the ledger file."""


class NotFoundError(InputError):
    """No run, sample or interval of that name; the message lists what there is."""


class RunExistsError(InputError):
    """A run of that id is in the ledger already."""


class RunBusyError(EdcoError, RuntimeError):
    """Another process holds the lease of this run."""

    exit_code = 2


class LeaseLostError(EdcoError, RuntimeError):
    """This process no longer owns the run, and must write nothing more."""


class StopRequested(EdcoError):
    """A signal asked for a clean stop and a safe point was reached: the run can be resumed."""


class GuardStop(StopRequested):
    """The guard of a run stopped it (curriculum.guard.on_alarm): resuming acknowledges that."""


class WithheldError(EdcoError):
    """Stands for an error whose own words may quote samples that are not to be kept anywhere."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"{type(error).__name__}, whose words may quote samples: they were printed, and not "
            "kept (store.keep_texts: false)"
        )
        if isinstance(error, EdcoError):
            self.exit_code = error.exit_code


class TrainingError(EdcoError, RuntimeError):
    """Training cannot go on: a loss that is not finite, a checkpoint unlike its hash."""


class RewardError(EdcoError, RuntimeError):
    """A reward failed on an answer, or gave no finite number; the message names both."""


class JudgeDownError(StopRequested):
    """A judge cannot be asked: the run pauses, since zeros in its place would be trained on."""
