"""Maps of slides: where trained models look, as pictures, GeoJSON and tables."""
