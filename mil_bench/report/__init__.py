"""Tables, figures and sentences from evaluated runs, and how they are rendered; never imports torch."""
