"""Pictures of what a model does, as PNG files of 1200 pixels and more in width."""

from pipelines.pictures.codes import plot_code_map
from pipelines.pictures.comparisons import plot_entities, plot_rates
from pipelines.pictures.images import plot_images
from pipelines.pictures.samples import plot_samples
from pipelines.pictures.scores import plot_error_histogram, plot_scores
from pipelines.pictures.signals import plot_reconstruction, plot_waveforms
from pipelines.pictures.training import plot_history

__all__ = [
    "plot_code_map",
    "plot_entities",
    "plot_error_histogram",
    "plot_history",
    "plot_images",
    "plot_rates",
    "plot_reconstruction",
    "plot_samples",
    "plot_scores",
    "plot_waveforms",
]
