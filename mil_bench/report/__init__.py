"""Tables, figures and sentences of evaluated runs, and their renderers; without torch."""
