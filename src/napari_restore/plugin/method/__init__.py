"""The method: model, parameters, roles of bands, airlight, model files."""
