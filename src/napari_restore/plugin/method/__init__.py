"""With what: the chooser, its parameters, bands, airlight, files of models."""
