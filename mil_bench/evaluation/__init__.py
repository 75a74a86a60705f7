"""From stored predictions to metrics, tables and reports; never imports torch."""
