"""Which callbacks have options of their own on the command line, and which options of a model the data set."""

from genlab import callbacks

PICTURES = {
    "reconstructions": callbacks.Reconstructions,
    "interpolation": callbacks.Interpolation,
    "latent_scatter": callbacks.LatentScatter,
    "latent_correlation": callbacks.LatentCorrelationMatrix,
    "latent_plane": callbacks.LatentPlane,
    "traversals": callbacks.LatentTraversals,
    "combinations": callbacks.CategoryCombinations,
    "samples": callbacks.SampleGrids,
    "sample_table": callbacks.SampleTable,
    "training_gif": callbacks.TrainingGif,
    "denoising": callbacks.Denoising,
    "anomaly_scores": callbacks.AnomalyScores,
    "angles": callbacks.AnglePredictions,
    "class_grid": callbacks.ClassGrid,
    "arithmetic": callbacks.LatentArithmetic,
    "prior_interpolation": callbacks.PriorInterpolation,
    "filters": callbacks.Filters,
    "curves": callbacks.LearningCurves,
    "generated_images": callbacks.GeneratedImages,
}
"""Callbacks that draw a picture, and do nothing when pictures are not wanted."""
MEASURES = {
    "quality": callbacks.SampleQuality,
    "translation": callbacks.TranslationQuality,
    "stability": callbacks.LossStability,
    "alarm": callbacks.CollapseAlarm,
    "active_units": callbacks.ActiveUnits,
    "category_match": callbacks.CategoryMatch,
    "color_control": callbacks.ColorControl,
    "principal_subspace": callbacks.PrincipalSubspace,
}
"""Callbacks whose numbers are always logged, and whose pictures are drawn when pictures are wanted."""
SET_BY_DATA = {
    "model.image_shape": "data.image_shape",
    "model.source_shape": "data.source_shape",
    "model.num_classes": "data.num_classes",
}
"""Options of models whose values the data give, with the attribute of the data module."""
NUM_IMAGES = "model.num_images"
"""An option of models that optimize one image for each picture of the data: the number of these pictures."""
