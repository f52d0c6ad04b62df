"""The subcommands of training programs, with what each does."""

SUBCOMMANDS = {
    "fit": "Train a model, and test its best checkpoint.",
    "validate": "Evaluate a checkpoint on the validation images.",
    "test": "Evaluate a checkpoint on the test images.",
    "predict": "Write what a checkpoint predicts for each image to predictions.npz.",
}
