"""What scores say: aggregates over games and seeds, with their uncertainty."""

from sbbatch.analysis.metrics_callback import AnalysisMetrics

__all__ = ["AnalysisMetrics"]
