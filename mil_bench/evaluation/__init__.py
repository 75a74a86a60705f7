"""From stored predictions to metrics, statistics and verdicts: numbers only, without torch."""
