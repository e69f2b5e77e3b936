"""Methods that are not path integrals: built in, of captum, and of other packages."""
